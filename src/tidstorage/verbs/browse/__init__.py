"""``bin/cluster browse``: a Zope that shows a restored set and cannot write to it."""
