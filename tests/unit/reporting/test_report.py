"""The report: one file that opens offline, tells the truth and trusts no text."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protosonic.campaign.records import BackendUse
from protosonic.errors import ConfigError, VerificationError
from protosonic.reporting.distributions import BINS, score_histograms
from protosonic.reporting.report import write_report
from protosonic.reporting.terminal import UNTRAINED_WARNING

LATENCY = {"p50": 0.001, "p95": 0.001, "p99": 0.001, "max": 0.001}
VOID = {"meta", "br", "line", "polyline", "polygon"}


class Page(HTMLParser):
    """Text, tags and attributes of a page; elements must be closed in the right order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes, self.open = "", [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


@pytest.fixture
def page(make_campaign) -> Page:
    return Page(write_report(make_campaign()).read_text(encoding="utf-8"))


def test_report_stands_beside_the_dataset(make_campaign):
    layout = make_campaign()
    assert write_report(layout) == layout.report
    assert layout.report.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_report_needs_nothing_from_elsewhere(make_campaign):
    text = write_report(make_campaign()).read_text(encoding="utf-8")
    page = Page(text)
    assert not {"link", "iframe", "object", "embed", "base", "img"} & set(page.tags)
    links = [value for name, value in page.attributes if name in {"src", "href", "srcset", "action", "data"}]
    assert all(link.startswith("#") for link in links)
    ids = {value for name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links} == ids
    assert not [word for word in ("http:", "https:", "//cdn", "@import", "url(") if word in text]


def test_only_the_scripts_of_the_package_may_run(make_campaign):
    """Their digests are in the policy of the page; a script that a name brought in would have another one."""
    text = write_report(make_campaign()).read_text(encoding="utf-8")
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert html.unescape(policy).startswith(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src "
    )
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = re.findall(r"'sha256-(.*?)'", html.unescape(policy))
    assert sorted(digests) == sorted(allowed)
    assert len(digests) == 2


def test_hostile_names_and_reasons_are_shown_as_text(page, hostile):
    assert page.tags.count("script") == 3
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for text in (
        f"data/{hostile}.h5",
        f"data/z0{hostile}.h5",
        f"corrupt: {hostile}",
        f"not-finite: {hostile}",
        f"Fallback: the endpoint is down: {hostile}",
        f"version 1, {hostile}, SHA-256",
    ):
        assert text in page.text


def test_report_counts_events_hits_and_backends(page):
    for text in ("1events done", "2quarantined", "60hits classified", "120hits/s", "25.0%scored by triton"):
        assert text in page.text
    assert "75.0%scored by onnxruntime" in page.text
    assert "U (20)V (20)W (20)" in page.text


def test_report_names_model_endpoint_and_configuration(page):
    for text in ("m" * 64, "grpc://triton:8001, served version 3", "protodune-sp-2021, planes 0, 1, 2"):
        assert text in page.text
    assert json.dumps({"name": "shown", "seed": 1}, indent=2).replace("\n", "\n  ") in page.text


def section(page: Page, heading: str, until: str) -> str:
    return page.text.partition(heading)[2].partition(until)[0]


def test_report_has_a_row_per_endpoint_with_what_it_did(make_campaign):
    text = write_report(make_campaign()).read_text()
    rows = [re.findall(r"<td[^>]*>(?:<code>)?(.*?)(?:</code>)?</td>", row) for row in text.split("<tr>")[1:]]
    found = {row[0]: " ".join(row[1:]) for row in rows if len(row) == 14}
    assert found == {
        "grpc://never-there:8001": "– – 0 0 0 0 0.0 0.0 – – – – 1",
        "grpc://triton:8001": "3 image 15 1,234 34 7 5,678.9 1.2 42 568 12 4.6 2",
    }


def test_report_sums_up_the_failed_calls_by_endpoint_and_class(page, hostile):
    rows = section(page, "first reason", "Scores").split("\n")
    assert [row for row in rows if row.strip()] == [
        "unavailable401grpc://never-there:8001connection refused",
        f"overload301grpc://triton:8001Exceeds maximum queue size {hostile}",
        "timeout41grpc://triton:8001Deadline Exceeded",
        "unavailable11grpc://triton:8001–",
    ]


def test_report_of_a_campaign_without_failed_calls_says_so(make_campaign):
    good = BackendUse(backend="triton", endpoint="grpc://good:1", hits=15, answers=1, latency_s=LATENCY)
    page = Page(write_report(make_campaign(endpoints=(good,))).read_text())
    assert "No call failed." in page.text


def test_report_of_a_campaign_on_the_cpu_has_no_endpoints(make_campaign):
    page = Page(write_report(make_campaign(endpoints=())).read_text())
    assert "Endpoints" not in page.text


def test_a_long_list_of_fallbacks_is_cut_with_its_number(make_campaign):
    page = Page(write_report(make_campaign(more_fallbacks=9)).read_text())
    assert page.text.count("Fallback: ") == 3
    assert "… and 7 more reasons" in page.text


def test_report_says_that_the_model_is_untrained(page):
    assert UNTRAINED_WARNING in page.text


def test_report_of_a_trained_model_does_not_say_so(make_campaign):
    assert "untrained:" not in Page(write_report(make_campaign(untrained=False)).read_text()).text


def test_report_says_that_the_campaign_is_not_accepted(page):
    assert (
        "Not accepted: 66.67% of the planned events are quarantined; at most 0.00% are allowed." in page.text
    )


def test_every_quarantined_event_and_file_has_a_row(page):
    by_file = section(page, "By file", "How it went")
    assert "(2 rows; 2 files were planned)" in by_file
    assert by_file.count("data/") == 2
    assert "the file0corrupt: " in by_file
    assert "15not-finite: " in by_file


def test_reasons_are_grouped(page):
    rows = section(page, "for example", "By file")
    assert "corrupt110" in rows
    assert "not-finite115" in rows


def test_long_list_of_quarantined_files_is_cut_with_their_number(make_campaign):
    page = Page(write_report(make_campaign(unreadable=204)).read_text())
    assert "… and 5 more: accounting.parquet lists all." in page.text
    assert "… and 5 more: campaign.json lists all." in page.text
    assert section(page, "By file", "How it went").count("corrupt: ") == 199


def test_cells_carry_the_heads_of_their_columns_for_narrow_screens(make_campaign):
    text = write_report(make_campaign()).read_text(encoding="utf-8")
    tables = re.findall(r'<table class="stack">(.*?)</table>', text, re.DOTALL)
    assert len(tables) == 4
    for table in tables:
        heads = re.findall(r"<th(?: [^>]*)?>([^<]*)</th>", table)
        first, *_ = re.findall(r"<tr>(<td.*?)</tr>", table)
        assert re.findall(r'data-label="([^"]*)"', first) == heads


def test_pictures_are_described_in_words(page):
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert len([label for label in labels if label != "Parts of the report"]) == page.tags.count("svg") == 7
    for words in ("Hits per second over time", "Latency of requests over time", "Failed calls over time"):
        assert any(label.startswith(words) for label in labels)


def test_report_of_a_campaign_without_hits_is_whole(make_campaign):
    page = Page(write_report(make_campaign(0)).read_text())
    assert "0hits classified" in page.text
    assert not [value for name, value in page.attributes if value == "viewer"]


def test_outcome_and_what_limited_the_campaign_stand_in_sentences(page):
    assert (
        "1 of 3 planned events are done, 2 are quarantined (66.67%, which is not accepted: at most 0.00%)"
        in page.text
    )
    assert "75% of the hits were scored on the CPU because endpoints did not serve" in page.text
    assert (
        "grpc://triton:8001 was the limit: a request waited 12.3 ms there for 4.6 ms of computing."
        in page.text
    )


def test_scores_stand_beside_those_of_a_reference(make_campaign):
    layout = make_campaign()
    page = Page(write_report(layout, reference=layout.results).read_text(encoding="utf-8"))
    table = section(page, "Against the reference", "Population stability")
    assert table.count("as the reference") == 12
    assert table.count("0.000") == 12
    with pytest.raises(ConfigError, match=r"report\.reference: the reference cannot be read"):
        write_report(layout, reference=layout.workdir / "nothing")


def test_events_are_drawn_only_where_they_are_wanted(make_campaign):
    text = write_report(make_campaign(), events=0).read_text(encoding="utf-8")
    assert '"viewer"' not in text
    assert len(re.findall(r"<script>", text)) == 1


def test_equal_campaigns_give_equal_reports(make_campaign):
    layout = make_campaign()
    first = write_report(layout).read_bytes()
    assert write_report(layout).read_bytes() == first


def test_report_of_an_unfinished_campaign_is_refused(make_campaign):
    layout = make_campaign()
    layout.campaign.unlink()
    with pytest.raises(VerificationError, match=r"campaign\.json: cannot be read"):
        write_report(layout)
    assert not layout.report.exists()


def test_histograms_count_every_hit_of_every_plane_once(make_campaign):
    layout = make_campaign()
    hits = pa.concat_tables(pq.read_table(path) for path in layout.hits.iterdir())
    plane = hits["plane"].to_numpy()
    histograms = score_histograms(layout.results)
    assert set(histograms) == {(p, name) for p in range(3) for name in ("track", "em", "none", "michel")}
    for (number, name), counts in histograms.items():
        scores = hits[name].to_numpy()[plane == number]
        expected, _ = np.histogram(scores, bins=BINS, range=(0, 1))
        np.testing.assert_array_equal(counts, expected)
        assert counts.sum() == (plane == number).sum()


def test_scores_at_the_ends_fall_into_the_outer_bins(make_campaign):
    layout = make_campaign()
    [path] = layout.hits.iterdir()
    table = pq.read_table(path)
    field = table.schema.field("track")
    ends = pa.array(np.resize([0.0, 1.0, 1.0, 0.5], len(table)), field.type)
    pq.write_table(table.set_column(table.schema.get_field_index("track"), field, ends), path)
    counts = sum(score_histograms(layout.results)[plane, "track"] for plane in range(3))
    assert (counts[0], counts[BINS - 1], counts[BINS // 2]) == (15, 30, 15)
