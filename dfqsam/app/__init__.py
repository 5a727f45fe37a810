"""The viewer: a study, a box, and the masks of both models side by side. Streamlit draws it; nothing here needs torch.

What computes (models, embeddings, masks, figures, what the picture component shows) knows nothing of Streamlit; the
modules ``main``, ``page``, ``sidebar`` and ``component`` do.
"""
