"""Units, weekdays and days of the year."""

from __future__ import annotations

from datetime import date, timedelta

from gateway.bench.tasks.item import Item, Rng, number_item, word_item

_UNITS = (  # larger, smaller, how many of the smaller are one of the larger
    ("minute", "seconds", 60),
    ("hour", "minutes", 60),
    ("day", "hours", 24),
    ("week", "days", 7),
    ("year", "months", 12),
    ("foot", "inches", 12),
    ("metre", "centimetres", 100),
    ("kilometre", "metres", 1000),
    ("kilogram", "grams", 1000),
    ("litre", "millilitres", 1000),
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_YEAR = 2023


def to_smaller_unit(rng: Rng) -> Item:
    """2 to 12 of the larger unit, in the smaller."""
    larger, smaller, factor = rng.choice(_UNITS)
    count = rng.randint(2, 12)
    working = f"1 {larger} is {factor} {smaller}. {count} * {factor} = {count * factor}."
    return number_item(f"How many {smaller} are {count} {_plural(larger)}?", working, count * factor)


def to_larger_unit(rng: Rng) -> Item:
    """A whole number of the larger unit, given in the smaller."""
    larger, smaller, factor = rng.choice(_UNITS)
    count = rng.randint(2, 12)
    working = f"1 {larger} is {factor} {smaller}. {count * factor} / {factor} = {count}."
    return number_item(f"How many {_plural(larger)} are {count * factor} {smaller}?", working, count)


def weekday_after(rng: Rng) -> Item:
    """The weekday 1 to 10 days after one."""
    start, days = rng.randrange(7), rng.randint(1, 10)
    path = [_WEEKDAYS[(start + step) % 7] for step in range(1, days + 1)]
    problem = f"Today is {_WEEKDAYS[start]}. Which day of the week is it in {days} {'day' if days == 1 else 'days'}?"
    return word_item(problem, f"{', '.join(path)}.", path[-1])


def days_in_one_month(rng: Rng) -> Item:
    """Days between two dates of one month."""
    first, second = sorted(rng.sample(range(1, 29), 2))
    month = f"{date(_YEAR, rng.randint(1, 12), 1):%B}"
    problem = f"How many days are there from {month} {first} to {month} {second}?"
    return number_item(problem, f"{second} - {first} = {second - first}.", second - first)


def days_into_next_month(rng: Rng) -> Item:
    """Days between two dates of neighbouring months, at most 30 apart."""
    start = date(_YEAR, rng.randint(1, 11), rng.randint(15, 28))
    last = (start.replace(day=28) + timedelta(4)).replace(day=1) - timedelta(1)
    left, more = last.day - start.day, rng.randint(1, 14)
    end = last + timedelta(more)
    problem = f"How many days are there from {_day(start)} to {_day(end)}, {_YEAR}?"
    working = f"{left} days to {_day(last)}, then {more} more. {left} + {more} = {left + more}."
    return number_item(problem, working, left + more)


def _plural(unit: str) -> str:
    return "feet" if unit == "foot" else f"{unit}s"


def _day(day: date) -> str:
    return f"{day:%B} {day.day}"
