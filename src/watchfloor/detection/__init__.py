"""What does it mean? From stored events to alerts, and from alerts to incidents.

Rules are content (``content/detections/*.yaml``); this room reads them, applies them to slices of fresh events and
joins the alerts. So are the templates that people hunt with (``content/hunting/*.yaml``) and the indicators of what
weakens an agent (``content/posture/*.yaml``). Above it stand ``jobs`` and the portal, below it ``storage``. It decides
nothing inline and acts on nothing: stopping a call is the guard's, containing a user is ``response``'s.
"""
