"""A run's story as one HTML page: its picture, which can be zoomed into, and the account of it."""

from collections.abc import Callable
from html import escape

from lrpilot_controller.errors import ConfigError
from lrpilot_controller.journal.base import Reader, RunKey
from lrpilot_controller.story import Story, tell
from lrpilot_controller.story.picture import RAW, Picture
from lrpilot_controller.tuning.account import account_of
from lrpilot_controller.tuning.cases import read_cases

HEIGHT = 620  # of the picture, in pixels

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 1.5em auto;
       padding: 0 1em; }
table { border-collapse: collapse; margin: .8em 0; font-size: 13px; }
td, th { border-bottom: 1px solid #ddd; padding: .2em .9em .2em 0; }
code { background: #f3f3f3; padding: 0 .2em; overflow-wrap: anywhere; }
h3 { margin-top: 1.8em; border-top: 1px solid #ddd; padding-top: .8em; }
"""


def page_of(journal: Reader, run: RunKey, more: Callable[[Story], str] = lambda story: "") -> str:
    """The page of a run; it loads nothing.

    Args:
        journal: Where the run is recorded.
        run: Which one.
        more: What stands between the picture and the account, as HTML.

    Raises:
        JournalError: the journal cannot be read.
        ConfigError: Plotly is not installed.
    """
    story = tell(run, journal.records(run), points=RAW)
    account = account_of(story, read_cases(journal, run))
    return _page(str(run), Picture(story), more(story), account)


def _page(title: str, picture: Picture, more: str, account: str) -> str:
    """A whole HTML page; the account is Markdown, and HTML within it shown as it is written."""
    try:
        from markdown_it import MarkdownIt
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ConfigError(
            f"a report needs what is not installed ({error}): pip install 'lrpilot[controller]'"
        ) from error
    text = MarkdownIt("commonmark", {"html": False}).enable("table").render(account)
    figure = picture.to_json().replace("<", "\\u003c")  # a name may hold </script>
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>
<div id="picture" style="height: {HEIGHT}px"></div>
<script>
const figure = {figure};
Plotly.newPlot("picture", figure.data, figure.layout, {{responsive: true, displaylogo: false}});
</script>
{more}
{text}
</body></html>
"""
