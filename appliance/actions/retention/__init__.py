"""How long what is kept, and how it goes: classes, legal holds, keys that are destroyed, people who are erased."""
