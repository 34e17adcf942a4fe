"""Does a call follow from what the user asked, or from what somebody else wrote? A learned signal to ask, never more.

sentences.py   texts in pieces that can be compared
features.py    what is measured of one call, given a way to compare sentences
head.py        the measures as a probability: a linear model of few numbers
alignment.py   the answer, as it is decided on and put on record
"""
