"""The account pages: what people see of their account in a browser, rendered here and of use without JavaScript.

They call the same use cases as the API. A cookie holds the token of their session, and opens nothing but these pages: the API
reads no cookie. Nothing is kept between two requests except the session itself, so any worker answers any of them.
"""
