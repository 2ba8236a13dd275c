"""What a pool keeps: the database, the result log, the objects."""

from pool.store.commit import Group, commit_group
from pool.store.database import Database, StoreError
from pool.store.objects import Objects
from pool.store.resultlog import LogCorruptError, ResultLog
from pool.store.store import Store

__all__ = [
    "Database",
    "Group",
    "LogCorruptError",
    "Objects",
    "ResultLog",
    "Store",
    "StoreError",
    "commit_group",
]
