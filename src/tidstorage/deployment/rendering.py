"""Files made from templates: rendered once, and written by whoever wants them."""

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from tidstorage.errors import TemplateBroken

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """A template, what goes into it (JSON), where the result belongs, and the result.

    name: what buildout calls the part that writes it.
    """

    name: str
    template: str
    target: Path
    data: dict[str, Any]
    text: str


def generate(
    name: str, template: str, target: Path, data: dict[str, Any]
) -> GeneratedFile:
    """Render a file; nothing is written.

    Raises: TemplateBroken: where it cannot be rendered; names the template's line.
    """
    return GeneratedFile(name, template, target, data, _render(template, data))


def _render(template: str, data: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(TEMPLATES)
    )
    try:
        return environment.get_template(template).render(data=data)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateBroken(
            f"{TEMPLATES / template}, line {error.lineno}: {error.message}"
        ) from error
    except jinja2.TemplateNotFound as error:
        raise TemplateBroken(f"{TEMPLATES / str(error.name)}: not there") from error
    except Exception as error:
        # An expression in a template can raise whatever Python can.
        raise TemplateBroken(f"{_find_line(error, template)}: {error}") from error


def _find_line(error: Exception, template: str) -> str:
    """Template and line; jinja2 makes tracebacks name both."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).parent == TEMPLATES:
            return f"{frame.filename}, line {frame.lineno}"
    return str(TEMPLATES / template)
