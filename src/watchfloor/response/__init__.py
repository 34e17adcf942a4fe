"""What do we do about it? The actions that operators take, each with its guards, its effect and its proof.

Above ``detection``, ``registry`` and ``identity``, on which actions act; the portal calls it. It decides nothing inline
(that is the guard's) and finds nothing out (that is detection's).
"""
