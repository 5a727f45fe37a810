// How a component tells Python of something (heard.py).
let turn = Date.now();

/** What to call with an event. It becomes a numbered state and no trigger: Streamlit forgets a trigger whose run has not
 * begun when the next request comes, while a state goes along with every request. */
export const telling = (setStateValue, name) => (event) => setStateValue(name, { ...event, turn: (turn += 1) });
