"""Geometry on the Earth as a sphere: what the geo_... functions of KQL mean, without any database.

Edges are the shortest arcs between their ends; lengths are metres on a sphere of the Earth's mean radius.
"""
