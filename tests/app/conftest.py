import pytest

from tests.app.browser import CHROMIUM


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as library:
        started = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What the pages say goes into the report of a test that failed in the browser."""
    report = yield
    if report.when == "call" and report.failed and "browser" in getattr(item, "funcargs", {}):
        from playwright.sync_api import Error

        for context in item.funcargs["browser"].contexts:
            for page in context.pages:
                try:
                    report.sections.append((page.url, page.inner_text("body", timeout=2000)[-4000:]))
                except Error as error:
                    report.sections.append((page.url, str(error)))
    return report
