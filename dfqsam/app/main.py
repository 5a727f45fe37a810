"""The script that Streamlit runs, once for every session and change."""

from dfqsam.app.page import show

show()
