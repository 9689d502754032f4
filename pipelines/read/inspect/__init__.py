"""`rillet inspect`: what a foreign file holds, and how it could be read.

- `dialect`: how the text of a file is laid out
- `fields`: the columns, or paths, with their types and examples
- `propose`: a mapping to paste, with marks where it cannot know
- `outcome`: what would become of the records
- `report`: all of it
"""

from pipelines.read.inspect.report import inspect_source

__all__ = ["inspect_source"]
