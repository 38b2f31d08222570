"""Generated pedestrians: drawn people with identities, for tests and for the demonstration.

- `pedestrians`: draws one picture, or writes a whole data set.
- `person`: what stays the same about one identity.
- `scenery`: cameras, the places they look at, and what stands in front of people.
- `figure`: draws a person on a `stage`.
"""

from kronreid.data.generated.pedestrians import contact_sheet, draw, write_market1501

__all__ = ["contact_sheet", "draw", "write_market1501"]
