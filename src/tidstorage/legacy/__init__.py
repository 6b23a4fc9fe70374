"""What TIDStorage 5, "the original", left on disk and in crontabs, and its commands.

Its configuration files, repozo repositories and TID logs go on to work.
"""
