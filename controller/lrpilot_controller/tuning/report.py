"""A run's story as one HTML page: its picture, which can be zoomed into, and the account of it."""

from html import escape

from lrpilot_controller.errors import ConfigError
from lrpilot_controller.journal.base import Reader, RunKey
from lrpilot_controller.story import find_run, tell
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


def report_on(journal: Reader, text: str) -> tuple[RunKey, str]:
    """The page of a run.

    Args:
        journal: Where it is recorded.
        text: `project/name`, or `name` where that is unique.

    Raises:
        NotFound: there is no such run, or several have that name.
        JournalError: the journal cannot be read.
        ConfigError: Plotly is not installed.
    """
    key = find_run(journal, text)
    story = tell(key, journal.records(key), points=RAW)
    return key, page(str(key), Picture(story), account_of(story, read_cases(journal, key)))


def page(title: str, picture: Picture, account: str) -> str:
    """A whole HTML page that loads nothing.

    Args:
        title: Of the page.
        picture: Drawn on top.
        account: In Markdown; HTML within it is shown as it is written.
    """
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
{text}
</body></html>
"""
