"""The documentation that Airflow shows of a DAG: what it is for, its tasks, where to go on.

Everything stands in one place: what a DAG is for beside the function that makes it, what a task does and what
to do if it fails on its operator, and what is so of every DAG here.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

from tidepool_airflow.links import uploads_url
from tidepool_airflow.settings import deployment

if TYPE_CHECKING:
    from airflow.sdk import DAG

IF_IT_FAILS = """
Open the log of the task that failed: its lines at ERROR say the cause and what to do. Once that is mended,
clear the task, or let the next run take up what is left. Nothing is uploaded twice by either: what is done
is in the ledger, and what is in doubt is looked up at Tidepool first. The uploads page lists each batch
that needs attention, with its cause; `docs/errors.md` has every cause.
"""

ALWAYS_OF_USE = ("errors.md", "airflow.md")
"""Files of the documentation that every DAG leads to."""


def documented(dag: DAG, text: str | None, *reading: str) -> DAG:
    """Give a DAG its documentation, once it has all its tasks.

    :param dag: the DAG.
    :param text: what it is for, as Markdown; the first line is what the DAG does.
    :param reading: places in ``docs/`` to read on, such as ``airflow.md#feeds``.
    :returns: the same DAG.
    """
    sections = [
        cleandoc(text or ""),
        "### Tasks\n\n" + "\n".join(_tasks(dag)),
        "### When it fails\n\n" + IF_IT_FAILS.strip().replace("\n", " "),
        "### Read on\n\n" + "\n".join(_places(reading)),
    ]
    dag.doc_md = "\n\n".join(sections)
    return dag


def _tasks(dag: DAG) -> Iterator[str]:
    """Yield a line for each kind of task, in the order in which they run."""
    ids: dict[str, list[str]] = {}
    for task in dag.topological_sort():  # type: ignore[no-untyped-call]
        ids.setdefault(_about(task), []).append(task.task_id)
    for about, named in ids.items():
        yield f"- {', '.join(f'`{task_id}`' for task_id in named)}: {about}"


def _about(task: Any) -> str:
    return " ".join(str(task.doc_md or "").split())


def _places(reading: tuple[str, ...]) -> Iterator[str]:
    """Yield lines with links, as far as it is known where the documentation is published."""
    yield f"- [The uploads page]({uploads_url()})"
    folder = deployment().docs_url
    for place in (*reading, *ALWAYS_OF_USE):
        yield f"- [docs/{place}]({folder}/{place})" if folder else f"- `docs/{place}` of the project"
