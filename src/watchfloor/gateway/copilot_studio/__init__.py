"""The door of Copilot Studio's external threat detection: it asks before every tool call, and does what it is told.

``door`` speaks HTTP, ``access`` says who may ask, ``keys`` knows whose signatures count, ``payload`` reads what is
asked, ``names`` finds out which agent, user and tool that is, ``engine`` decides, in ``lanes``; ``answers`` is what is
said.
"""
