"""The clients of clouds and of the web, and what their answers mean."""
