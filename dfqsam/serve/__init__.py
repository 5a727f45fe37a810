"""A bundle as a service on the network: pictures and prompts in, masks out.

From the bottom up: ``settings`` (who may reach it), ``problems`` (errors as JSON), ``clients`` and ``rate`` (who asks,
how often); ``prompts``, ``forms`` and ``pictures`` (what came in), ``cache``, ``engine`` (one thread that computes, and
its audit record) and ``answers`` (what goes out); ``metrics``, ``guard``, ``routes``, ``page`` and ``app`` make the web
application of them, and ``run`` the process. It needs the extra ``serve``, and knows neither torch nor Streamlit.
"""
