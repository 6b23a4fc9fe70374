"""Exit statuses of an export: what the process inside Zope tells the one outside."""

#: The path leads to no object that is stored by itself.
NO_SUCH_OBJECT = 3
#: The object, or one below it, refers to other databases.
SEVERAL_DATABASES = 4
