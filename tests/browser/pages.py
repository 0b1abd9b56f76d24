"""The playground as its users see it: what tests read from the page, and what they do to it."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Locator, Page, Response, expect

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


class Playground:
    """One open page. `answers` are the responses to what it has asked, in order."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.answers: list[Response] = []
        page.on("response", lambda response: self.answers.append(response) if "/v1/models/" in response.url else None)

    def answered(self) -> Playground:
        """Waits until the last question is answered completely."""
        expect(self.page.locator("#answer")).to_have_attribute("data-done", "true", timeout=30_000)
        return self

    def text(self, selector: str) -> str:
        """The text of one element, with plain spaces."""
        return self.page.locator(selector).inner_text().replace("\u00a0", " ")

    def figure(self) -> float:
        """The number that the answer begins with."""
        return number(self.text(".head .value").split()[0])

    def field(self, label: str) -> Locator:
        """A control by its label."""
        return self.page.get_by_label(label, exact=True)

    def type_into(self, label: str, text: str) -> None:
        """Types a value into a field and leaves it."""
        self.field(label).fill(text)
        self.field(label).press("Tab")

    def picture(self) -> str:
        """Every pixel of the chart."""
        found: str = self.page.locator(".chart canvas").evaluate("canvas => canvas.toDataURL()")
        return found

    def copied(self, button: str) -> str:
        """What is in the clipboard after a button was pressed."""
        self.page.get_by_role("button", name=button).click()
        expect(self.page.locator("#copied")).to_contain_text("Copied")
        found: str = self.page.evaluate("navigator.clipboard.readText()")
        return found

    def table(self) -> list[list[str]]:
        """The sweep as a table."""
        rows: list[list[str]] = self.page.locator(".as-table tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return [[cell.replace("\u00a0", " ") for cell in row] for row in rows]

    def bodies(self, verb: str) -> list[bytes]:
        """The bodies of all good answers of a route, by the end of its path."""
        return [one.body() for one in self.answers if one.url.endswith(f"/{verb}") and one.status == 200]

    def summary(self) -> tuple[dict[str, Any], dict[str, Any], bytes]:
        """The last question about a whole committee, its answer, and the very bytes of that."""
        last = next(one for one in reversed(self.answers) if "interval" in (one.request.post_data_json or {}))
        body = last.body()
        if last.url.endswith("/stream"):
            name, data = body.decode().split("\n\n")[-2].split("\n")
            assert name == "event: answer"
            body = data.removeprefix("data: ").encode()
        return last.request.post_data_json, json.loads(body), body


def number(text: str) -> float:
    """A number as the page writes it."""
    return float(text.replace("−", "-").replace(",", ""))
