// Elements of the page, made in one line.
export function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

export function button(name, label, title, act, { on = false, disabled = false } = {}) {
  return Object.assign(element("button", { textContent: label, title, type: "button", onclick: act, disabled, className: on ? "on" : "" }), { name });
}
