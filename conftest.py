"""What pytest does not collect."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("gradio") else ["src/allukan/app/page.py"]  # needs the extra allukan[app]
