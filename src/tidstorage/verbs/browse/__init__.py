"""Looking at the past: a scratch restore with a Zope that cannot write to it."""
