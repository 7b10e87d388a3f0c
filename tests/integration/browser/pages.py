"""The pages of Airflow that people meet, as far as the tests work with them."""

from __future__ import annotations

from datetime import date

from playwright.sync_api import Locator, Page, expect


def choices(page: Page, field: Locator) -> list[str]:
    """Return what a drop-down list offers."""
    box = field.locator("input").first
    box.click()
    page.get_by_role("option").first.wait_for()
    offered = page.get_by_role("option").all_inner_texts()
    box.press("Tab")
    return offered


def choose(page: Page, field: Locator, label: str) -> None:
    """Choose from a drop-down list."""
    field.locator("input").first.fill(label)
    page.get_by_role("option", name=label).first.click()


class ConnectionsPage:
    """Admin, Connections."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.goto("/connections")

    def new(self, conn_id: str, kind: str) -> ConnectionForm:
        """Open the form for a new connection."""
        self.page.get_by_role("button", name="Add Connection").first.click()
        dialog = self.page.get_by_role("dialog")
        dialog.locator("input[name=connection_id]").fill(conn_id)
        dialog.get_by_role("combobox").first.fill(kind)
        self.page.get_by_role("option", name=kind, exact=True).click()
        return ConnectionForm(self.page, dialog)

    def test(self, conn_id: str) -> str:
        """Press the button Test in a connection's row, and return the result."""
        row = self.page.get_by_role("row").filter(has_text=conn_id)
        row.get_by_role("button", name="Test Connection").click()
        status = self.page.get_by_role("status").filter(has_text="Test Connection")
        status.first.wait_for()
        return status.first.inner_text()


class ConnectionForm:
    """The form of a connection."""

    def __init__(self, page: Page, dialog: Locator) -> None:
        self.page, self.dialog = page, dialog

    def fill(self, **fields: str) -> None:
        """Fill the standard fields in."""
        for name, value in fields.items():
            self.dialog.locator(f"[name={name}]").fill(value)

    def open_extra(self) -> None:
        self.dialog.get_by_role("button", name="Extra Fields", exact=True).click()
        self.field("environment").wait_for()

    def field(self, name: str) -> Locator:
        """Return an extra field."""
        return self.dialog.locator(f"#element_{name}")

    def choices(self, name: str) -> list[str]:
        return choices(self.page, self.field(name))

    def choose(self, name: str, label: str) -> None:
        choose(self.page, self.field(name), label)

    def save(self) -> None:
        self.dialog.get_by_role("button", name="Save").click()
        self.dialog.wait_for(state="hidden")


class TriggerForm:
    """The form that the button Trigger of a DAG opens."""

    def __init__(self, page: Page, dag_id: str) -> None:
        self.page = page
        page.goto(f"/dags/{dag_id}")
        page.get_by_role("button", name="Trigger").first.click()
        self.dialog = page.get_by_role("dialog")
        self.field("first_day").wait_for()

    def field(self, name: str) -> Locator:
        return self.dialog.locator(f"#element_{name}")

    def open(self, section: str) -> None:
        self.dialog.get_by_role("button", name=section, exact=True).click()

    def tick(self, name: str) -> None:
        """Turn a switch on; the input itself is hidden under it."""
        self.dialog.locator(f"[name=element_{name}]").first.evaluate("input => input.click()")

    def number(self, name: str) -> Locator:
        """Return what a number is written into."""
        return self.dialog.locator(f"[name=element_{name}]")

    def choices(self, name: str) -> list[str]:
        return choices(self.page, self.field(name))

    def choose(self, name: str, label: str) -> None:
        choose(self.page, self.field(name), label)

    def trigger(self) -> None:
        self.dialog.get_by_role("button", name="Trigger").last.click()


class BackfillForm(TriggerForm):
    """The same dialog for a range of dates."""

    def __init__(self, page: Page, dag_id: str) -> None:
        super().__init__(page, dag_id)
        self.dialog.get_by_text("Run this Dag for a range of dates").click()

    def dates(self, *days: date) -> None:
        """Write both ends of the range, each at midnight UTC."""
        for number, day in enumerate(days):
            self.dialog.get_by_test_id("datetime-input").nth(number).click()
            field = self.page.get_by_placeholder("YYYY/MM/DD").locator("visible=true")
            field.fill(f"{day:%Y/%m/%d}")
            self.page.get_by_placeholder("HH:mm").locator("visible=true").fill("00:00")
            self.dialog.get_by_text("Date Range").click()
            expect(field).to_have_count(0)

    def run(self) -> None:
        self.dialog.get_by_role("button", name="Run Backfill").click()


class RequiredActions:
    """What waits for a person in a run; where it is one question, it is shown beside the list at once."""

    def __init__(self, page: Page, dag_id: str, run_id: str) -> None:
        self.page = page
        page.goto(f"/dags/{dag_id}/runs/{run_id}/required_actions?response_received=false")

    def choose(self, option: str) -> None:
        self.page.get_by_role("button", name=option, exact=True).click()
