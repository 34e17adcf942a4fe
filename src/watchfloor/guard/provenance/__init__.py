"""Where did this argument come from? Labels on what was said and read, and rules over the labels.

    conversation.py  what was said and read, indexed       directory.py  what the organisation knows by itself
    leaves.py        a result taken apart                  words.py      how texts are compared
    cards.py         what a tool's arguments are for       rules.py      which label is good enough for what
    trace.py         one call, each argument traced        labels.py     the vocabulary

Pure, like the rest of the guard. The gateway feeds a ``Conversation`` and asks ``trace``; ``engine.decide`` gets the
``Trace`` and knows nothing of how it was made.
"""
