"""Recomputes the numbers of the study's report from its outputs, by other means than the study's, and
holds the report's Markdown against them. Standard library alone.

    recompute.py DATA_FOLDER LABELS_CSV

Prints how many numbers were compared; exits with 1 and says which differ.
"""

import csv
import json
import re
import statistics
import sys
from collections import Counter, defaultdict
from datetime import datetime
from itertools import combinations

data, labels_file = sys.argv[1:]


def load(name):
    with open(f"{data}/{name}.json") as file:
        return json.load(file)


items = load("llm_bugs")
merged = load("merged_bug_results")
final = load("final_bug_results")
causes = {row["id"]: row for row in load("final_bug_results_with_root_cause_completed")}
symptoms = load("final_bug_results_with_root_cause_completed_symptom")
completions = load("analysis_cache")
with open(labels_file) as file:
    people = list(csv.DictReader(file))

# --- the report's tables, by the words of their captions ---------------------------------------------

with open(f"{data}/report.md") as file:
    report = file.read()


def plain(cell):
    return re.sub(r"\\(.)", r"\1", cell.strip())


def table(caption):
    """The rows below the caption with these words, as dictionaries by their headings."""
    found = re.findall(r"\*\*(?:Table|Figure) \d+\.\*\* ([^\n]*)\n\n((?:\|[^\n]*\n)+)", report)
    matching = [rows for words, rows in found if words.startswith(caption)]
    if not matching:
        sys.exit(f"the report has no table or figure `{caption}`")
    lines = [[plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in matching[0].splitlines()]
    return [dict(zip(lines[0], line)) for line in lines[2:]]


compared = 0
wrong = []


def holds(what, said, computed):
    """The report's cell against a number: as exact as the report's digits are."""
    global compared
    compared += 1
    text = said.replace(",", "")
    if computed is None:
        if text != "":
            wrong.append(f"{what}: the report has {said}, not nothing")
        return
    share = text.endswith(" %")
    if text == "":
        wrong.append(f"{what}: the report has nothing, not {computed}")
        return
    number = float(text[:-2]) / 100 if share else float(text)
    room = 0.00051 if share else 0.00051 if "." in text else 1e-9
    if "e" in text:
        room = abs(computed) * 0.06
    if abs(number - computed) > room:
        wrong.append(f"{what}: the report has {said}, recomputed {computed}")


# --- the funnel --------------------------------------------------------------------------------------

bugs = [row for row in merged if row["is_bug_related"]]
fixed = [row for row in final if row["is_fixed"]]
pulls = [row for row in fixed if row["is_pr"]]
steps = [
    len({row["id"] for row in items}),
    len(completions),
    len(bugs),
    len(fixed),
    len(symptoms),
    len(pulls),
    sum(1 for row in pulls if row["id"] in causes),
]
funnel = table("Each step")
assert len(funnel) == len(steps)
previous = None
for place, (row, count) in enumerate(zip(funnel, steps)):
    holds(f"funnel, {row['Step']}", row["Items"], count)
    before = {5: len(fixed)}.get(place, previous)
    holds(f"funnel, left out of {row['Step']}", row["Left out"], None if before is None else before - count)
    previous = count
still_open = sum(1 for row in final if not row["is_fixed"] and row["state"] == "open")
if f"{still_open} open;" not in funnel[3]["What is left out"]:
    wrong.append(f"funnel: {still_open} are open, not as in {funnel[3]['What is left out']}")

# --- people's labels, and which counts -----------------------------------------------------------------

known = {row["url"]: row for row in merged}
said = defaultdict(dict)
for line in people:
    if line["url"] not in known:
        continue
    if line["is_bug_related"]:
        said["is_bug_related", line["url"]][line["person"]] = line["is_bug_related"].lower()
    if line["symptom"]:
        said["symptom", line["url"]][line["person"]] = line["symptom"]


def by_people(variable, url):
    given = dict(said.get((variable, url), {}))
    if "adjudicated" in given:
        return given["adjudicated"]
    return given.popitem()[1] if len(set(given.values())) == 1 else None


def counts(row):
    return by_people("symptom", row["url"]) or row["symptom"]


# --- status, symptoms, causes --------------------------------------------------------------------------


def status(row):
    if row["is_fixed"]:
        return "confirmed and fixed"
    return "not confirmed" if row["status"] == "not_confirmed" else "confirmed, not fixed"


def crossed(caption, of, pairs):
    """A chart's numbers: its places down, its series across."""
    counted = Counter(pairs)
    rows = table(caption)
    for row in rows:
        place, *series = row.items()
        for name, cell in series:
            count = counted.pop((place[1], name), 0)
            holds(f"{of}, {place[1]}, {name}", cell, count or None)
    if counted:
        wrong.append(f"{of}: the report lacks {dict(counted)}")


crossed("Bugs by engine", "status", [(row["engine"], status(row)) for row in final])
crossed("Symptoms of fixed bugs", "symptoms", [(row["engine"], counts(row)) for row in symptoms])
both = [(row["category"], counts(row)) for row in symptoms if row["category"]]
crossed("How often each cause", "causes", [(symptom, cause) for cause, symptom in both])
pairs, firsts, seconds = Counter(both), Counter(a for a, _ in both), Counter(b for _, b in both)
for row in table("The same with lift"):
    pair = (row["Cause"], row["Symptom"])
    holds(f"items of {pair}", row["Items"], pairs[pair])
    holds(f"lift of {pair}", row["Lift"], pairs[pair] * len(both) / (firsts[pair[0]] * seconds[pair[1]]))

# --- over time -----------------------------------------------------------------------------------------

monthly = defaultdict(Counter)
for row in symptoms:
    if row["closed_at"]:
        monthly[row["closed_at"][:7]][counts(row)] += 1
for row in table("Each month's fixes"):
    month = row.pop("month")
    for symptom, cell in row.items():
        fixes = sum(monthly[month].values())
        holds(f"{month}, {symptom}", cell, monthly[month][symptom] / fixes if fixes else None)


def ranks(values):
    """Average ranks."""
    ordered = sorted(values)
    return [statistics.mean(i + 1 for i, other in enumerate(ordered) if other == value) for value in values]


months = sorted(month for month in monthly if monthly[month])
numbers = [12 * int(month[:4]) + int(month[5:]) for month in months]
p_values = []
for row in table("Whether shares rise or fall"):
    shares = [monthly[month][row["Symptom"]] / sum(monthly[month].values()) for month in months]
    holds(f"rho of {row['Symptom']}", row["Spearman's rho"], statistics.correlation(ranks(numbers), ranks(shares)))
    slope = statistics.linear_regression(numbers, shares).slope
    holds(f"slope of {row['Symptom']}", row["Points a year"], slope * 1200)
    holds(f"months of {row['Symptom']}", row["Months"], len(months))
    p_values.append((float(row["p"]), float(row["p, adjusted"])))
    if not 0 < float(row["p"]) <= 1:
        wrong.append(f"p of {row['Symptom']} is {row['p']}")
ordered = sorted(p_values)
for place, (p, adjusted) in enumerate(ordered):
    least = min(other * len(ordered) / (at + 1) for at, (other, _) in enumerate(ordered) if at >= place)
    if abs(min(least, 1) - adjusted) > 0.006:
        wrong.append(f"adjusted p of {p}: the report has {adjusted}, recomputed {min(least, 1)}")
    compared += 1

# --- effort --------------------------------------------------------------------------------------------


def time(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def quantile(values, share):
    """By linear interpolation."""
    values = sorted(values)
    at = (len(values) - 1) * share
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


for row in table("Days from an issue's creation"):
    engine = row["Engine"]
    own = [other for other in fixed if engine in ("all", other["engine"])]
    days = [
        (time(other["closed_at"]) - time(other["created_at"])).total_seconds() / 86400
        for other in own
        if not other["is_pr"]
    ]
    lines = [other["lines_added"] + other["lines_deleted"] for other in own if other["lines_added"] is not None]
    holds(f"issues of {engine}", row["Issues"], len(days))
    holds(f"median days of {engine}", row["Median days"], statistics.median(days))
    holds(f"mean days of {engine}", row["Mean days"], statistics.mean(days))
    holds(f"fixes of {engine}", row["Fixes"], len(lines))
    holds(f"median lines of {engine}", row["Median lines"], statistics.median(lines))
    holds(f"lines of {engine}", row["Lines, 90 %"], quantile(lines, 0.9))
    top = sorted(lines, reverse=True)[: -(-len(lines) // 5)]
    holds(f"top share of {engine}", row["Largest fifth holds"], sum(top) / sum(lines))

# --- confidence ----------------------------------------------------------------------------------------

edges = [0.6, 0.85, 0.9, 0.95, 1]
confident = Counter()
for row in merged:
    place = sum(1 for edge in edges if row["confidence"] >= edge)
    confident[place, "bug" if row["is_bug_related"] else "no bug"] += 1
for place, row in enumerate(table("The confidence that the model gives")):
    for side in ("bug", "no bug"):
        holds(f"confidence, {row['range']}, {side}", row[side], confident[place, side])

# --- agreement -----------------------------------------------------------------------------------------


def kappa(pairs):
    observed = sum(a == b for a, b in pairs) / len(pairs)
    one, other = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(one[label] * other[label] for label in one) / len(pairs) ** 2
    return observed, (observed - chance) / (1 - chance)


def model_says(variable):
    if variable == "is_bug_related":
        return {row["url"]: str(row["is_bug_related"]).lower() for row in merged}
    return {row["url"]: row["symptom"] for row in symptoms}


def section(heading):
    """What the report says below a heading of the third level."""
    return report.split(f"### {heading}")[1].split("\n### ")[0]


whole = report
for variable, heading in [("is_bug_related", "Is it about a bug?"), ("symptom", "Which symptom?")]:
    model = model_says(variable)
    agreed = {url: by_people(variable, url) for url in model}
    pairs = [(agreed[url], model[url]) for url in model if agreed[url]]
    if not pairs:
        if f"### {heading}" in report:
            wrong.append(f"{variable}: nobody labelled anything, and the report tells of agreement")
        continue
    report = section(heading)
    for row in table("People and the model"):
        if row["Measure"] in ("percent_agreement", "cohen_kappa"):
            observed, chance_free = kappa(pairs)
            holds(f"{variable}, {row['Measure']}", row["Value"], observed if "percent" in row["Measure"] else chance_free)
            holds(f"{variable}, items", row["Items"], len(pairs))
    persons = sorted({name for (of, _), given in said.items() if of == variable for name in given} - {"adjudicated"})
    for one, other in combinations(persons, 2):
        pairs_of = [
            (given[one], given[other])
            for (of, _), given in said.items()
            if of == variable and one in given and other in given
        ]
        rows = [row for row in table("People with each other") if row["Who"] == f"{one}, {other}"]
        for row in rows:
            observed, chance_free = kappa(pairs_of)
            holds(f"{variable}, {one}, {other}", row["Value"], observed if "percent" in row["Measure"] else chance_free)
    report = whole
    for row in table("The model against people"):
        if row["Question"] != variable:
            continue
        label = row["Label"]
        hits = sum(a == b == label for a, b in pairs)
        true, claimed = sum(a == label for a, _ in pairs), sum(b == label for _, b in pairs)
        holds(f"by people {label}", row["By people"], true)
        holds(f"precision of {label}", row["Precision"], hits / claimed if claimed else None)
        holds(f"recall of {label}", row["Recall"], hits / true if true else None)
        holds(f"F1 of {label}", row["F1"], 2 * hits / (true + claimed))
    if variable == "symptom":
        crossed("Symptoms: what people say", "confusion", [(said_by, label) for label, said_by in pairs])

if wrong:
    print("\n".join(wrong))
    sys.exit(1)
print(f"{compared} numbers are as recomputed")
