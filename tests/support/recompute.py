"""Recomputes the numbers of the study's report from its outputs, by other means than the study's, and
holds the report's Markdown against them. Standard library alone.

    recompute.py DATA_FOLDER LABELS_CSV SCHEMAS_FOLDER

Prints how many numbers were compared; exits with 1 and says which differ.
"""

import csv
import json
import random
import re
import statistics
import sys
from collections import Counter, defaultdict
from datetime import datetime
from itertools import combinations, permutations

data, labels_file, schemas = sys.argv[1:]


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


# --- people's labels, and which counts -----------------------------------------------------------------

TRUE, FALSE = {"true", "t", "yes", "y", "1"}, {"false", "f", "no", "n", "0"}
known = {row["url"].lower().rstrip("/"): row["url"] for row in items}
names = {
    name.lower(): name
    for name in json.load(open(f"{schemas}/symptom.schema.json"))["properties"]["symptom"]["enum"]
}
said = defaultdict(dict)
unread = 0
for line in people:
    url = known.get(line["url"].strip().lower().rstrip("/"))
    person = line["person"].strip().lower()
    is_bug, symptom = line["is_bug_related"].strip().lower(), line["symptom"].strip().lower()
    readable = (not is_bug or is_bug in TRUE | FALSE) and (not symptom or symptom in names)
    unread += not (url and person and readable)
    if not url or not person:
        continue
    if is_bug in TRUE | FALSE:
        said["is_bug_related", url][person] = "true" if is_bug in TRUE else "false"
    if symptom in names:
        said["symptom", url][person] = names[symptom]


def by_people(variable, url):
    given = dict(said.get((variable, url), {}))
    if "adjudicated" in given:
        return given["adjudicated"]
    return given.popitem()[1] if len(set(given.values())) == 1 else None


def counts(row):
    return by_people("symptom", row["url"]) or row["symptom"]


def is_bug(row):
    """As people say, or the model."""
    decided = by_people("is_bug_related", row["url"])
    said_so = {row["id"]: row["is_bug_related"] for row in completions}.get(row["id"])
    return decided == "true" if decided else said_so


for row in merged:
    if row["is_bug_related"] != is_bug(row):
        wrong.append(f"{row['url']} is_bug_related: {row['is_bug_related']}, recomputed {is_bug(row)}")
if unread and len(table("Lines of people's labels")) != unread:
    wrong.append(f"the report does not tell of all {unread} lines that cannot be read")

# Each bug once: by its pull request where that was collected, too; and no feature requests.
fixes_seen = {row["url"] for row in symptoms}
once = [row for row in symptoms if row["is_pr"] or row["fixed_by"] not in fixes_seen]
told = [row for row in once if counts(row) != "Feature Request"]

# --- the funnel --------------------------------------------------------------------------------------

bugs = [row for row in merged if is_bug(row)]
fixed = [row for row in final if row["is_fixed"]]
pulls = [row for row in fixed if row["is_pr"]]
diffs = [row for row in load("bug_diffs") if row.get("diff")]


def funnel(caption, steps):
    rows = table(caption)
    if len(rows) != len(steps):
        wrong.append(f"{caption}: {len(rows)} steps, not {len(steps)}")
    previous = None
    for row, count in zip(rows, steps):
        holds(f"funnel, {row['Step']}", row["Items"], count)
        holds(f"funnel, left out of {row['Step']}", row["Left out"], None if previous is None else previous - count)
        previous = count
    return rows


steps = [len({row["id"] for row in items}), sum(row["is_bug_related"] is not None for row in merged), len(bugs)]
rows = funnel("Each step", steps + [len(fixed), len(symptoms), len(once), len(told)])
funnel("How far the causes", [len(pulls), len(diffs), sum(row["id"] in causes for row in pulls)])
unfixed = [row for row in final if not row["is_fixed"]]
still_open = sum(row["state"] == "open" for row in unfixed)
unmerged = sum(row["state"] != "open" and row["is_pr"] for row in unfixed)
reason = (
    f"{still_open} open; {unmerged} pull requests closed unmerged; "
    f"{len(unfixed) - still_open - unmerged} issues closed without a merged fix"
)
not_by_people = sum(by_people("is_bug_related", row["url"]) == "false" for row in merged)
other = f"{not_by_people} as people say, {steps[1] - steps[2] - not_by_people} as the model says"
for place, expected in [(3, reason), (2, other)]:
    compared += 1
    if expected not in rows[place]["What is left out"]:
        wrong.append(f"funnel: `{rows[place]['What is left out']}` is not `{expected}`")

# --- what is said in words, and of what the numbers are ------------------------------------------------

prose = plain(" ".join(report.split("\n\n")[1].split()))
decided = {url for (_, url) in said if any(by_people(v, url) for v in ("is_bug_related", "symptom"))}
for words in [
    f"{steps[0]:,} issues and pull requests of {len({row['engine'] for row in items})} engine",
    f"the newest of {max(row['created_at'] for row in items)[:10]}",
    f"{len(bugs):,} of the {steps[1]:,} that were classified",
    f"decided ({len(decided):,} items)",
    f"say that {len(fixed):,} of these are fixed; each bug counted once, {len(told):,} are told of",
]:
    compared += 1
    if words not in prose:
        wrong.append(f"the report does not say `{words}`: {prose}")
flat = " ".join(plain(report).split())
for words in [
    f"Of the {len(told)} fixed bugs, each once, of each engine",
    f"Of the {len(bugs)} items about a bug, of each engine",
    f"Of the {len(fixed)} fixed items",
]:
    compared += 1
    if words not in flat:
        wrong.append(f"no caption says `{words}`")

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


crossed("Issues and pull requests about a bug", "status", [(row["engine"], status(row)) for row in final])
crossed("Symptoms of fixed bugs", "symptoms", [(row["engine"], counts(row)) for row in told])
both = [(row["category"], counts(row)) for row in told if row["category"]]
crossed("How often each cause", "causes", both)
pairs, firsts, seconds = Counter(both), Counter(a for a, _ in both), Counter(b for _, b in both)
for row in table("The same with lift"):
    pair = (row["Cause"], row["Symptom"])
    holds(f"items of {pair}", row["Bugs"], pairs[pair])
    holds(f"lift of {pair}", row["Lift"], pairs[pair] * len(both) / (firsts[pair[0]] * seconds[pair[1]]))

# --- over time -----------------------------------------------------------------------------------------

monthly = defaultdict(Counter)
for row in told:
    monthly[row["created_at"][:7]][counts(row)] += 1
for row in table("Each month's fixed bugs"):
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
    holds(f"bugs of {row['Symptom']}", row["Bugs"], sum(monthly[month][row["Symptom"]] for month in months))
    p_values.append((float(row["p"]), float(row["p, adjusted"])))
    dice, rho, order = random.Random(1), abs(statistics.correlation(ranks(numbers), ranks(shares))), ranks(shares)
    far = 0
    for _ in range(2000):
        dice.shuffle(order)
        far += abs(statistics.correlation(ranks(numbers), order)) >= rho - 1e-12
    compared += 1
    # Four standard errors of 2,000 draws.
    if abs(float(row["p"]) - far / 2000) > 0.045:
        wrong.append(f"p of {row['Symptom']} is {row['p']}, recomputed about {far / 2000}")
    span = range(numbers[0], numbers[-1] + 1)
    share_of = dict(zip(numbers, shares))
    for name, part in [("First 12 months", span[:12]), ("Last 12 months", span[-12:])]:
        holds(f"{name} of {row['Symptom']}", row[name], statistics.mean(share_of[n] for n in part if n in share_of))
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
    model_says_bug = {other["id"]: other["is_bug_related"] for other in completions}[row["id"]]
    confident[place, "bug" if model_says_bug else "no bug"] += 1
for place, row in enumerate(table("The confidence that the model gives")):
    for side in ("bug", "no bug"):
        holds(f"confidence, {row['range']}, {side}", row[side], confident[place, side])

# --- agreement -----------------------------------------------------------------------------------------


def kappa(pairs):
    observed = sum(a == b for a, b in pairs) / len(pairs)
    one, other = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    chance = sum(one[label] * other[label] for label in one) / len(pairs) ** 2
    return observed, (observed - chance) / (1 - chance)


def alpha(units):
    """Krippendorff's, of labels without an order: by pairs of values within units, and over all."""
    units = [unit for unit in units if len(unit) > 1]
    within = sum(sum(a != b for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    values = [value for unit in units for value in unit]
    over = sum(a != b for a, b in permutations(values, 2)) / (len(values) - 1)
    return 1 - within / over


def fleiss(units):
    raters, labels = len(units[0]), sorted({label for unit in units for label in unit})
    table_of = [[unit.count(label) for label in labels] for unit in units]
    agreed = statistics.mean((sum(n * n for n in row) - raters) / (raters * (raters - 1)) for row in table_of)
    chance = sum((sum(column) / (len(units) * raters)) ** 2 for column in zip(*table_of))
    return (agreed - chance) / (1 - chance)


def measured(measure, units):
    """`None` where it is not defined: nobody has labelled the same, or all say one thing."""
    if not any(len(unit) > 1 for unit in units):
        return None
    if measure != "percent_agreement" and len({label for unit in units for label in unit if len(unit) > 1}) < 2:
        return None
    if measure == "krippendorff_alpha":
        return alpha(units)
    if measure == "fleiss_kappa":
        return fleiss(units)
    if measure == "percent_agreement":
        return statistics.mean(a == b for a, b in units)
    return kappa([tuple(unit) for unit in units])[1]


def interval_holds(what, row):
    """An interval is about its value, and within what can be."""
    global compared
    compared += 1
    if row["Low"] and not -1 <= float(row["Low"]) <= float(row["Value"]) <= float(row["High"]) <= 1:
        wrong.append(f"{what}: {row['Value']} is not from {row['Low']} to {row['High']}")


def model_says(variable):
    if variable == "is_bug_related":
        by_id = {row["id"]: row["is_bug_related"] for row in completions}
        return {row["url"]: str(by_id[row["id"]]).lower() for row in merged if row["id"] in by_id}
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
        holds(f"{variable}, {row['Measure']}", row["Value"], measured(row["Measure"], [list(pair) for pair in pairs]))
        holds(f"{variable}, items", row["Items"], len(pairs))
        interval_holds(f"{variable}, {row['Measure']}", row)
    persons = sorted({name for (of, _), given in said.items() if of == variable for name in given} - {"adjudicated"})
    given = [
        {name: label for name, label in labels.items() if name != "adjudicated"}
        for (of, _), labels in said.items()
        if of == variable
    ]
    for row in table("People with each other"):
        whom = persons if row["Who"] == "all" else row["Who"].split(", ")
        if row["Measure"] == "krippendorff_alpha":
            units = [list(labels.values()) for labels in given]
        else:
            units = [[labels[name] for name in whom] for labels in given if all(name in labels for name in whom)]
        holds(f"{variable}, {row['Who']}, {row['Measure']}", row["Value"], measured(row["Measure"], units))
        interval_holds(f"{variable}, {row['Who']}, {row['Measure']}", row)
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
        crossed("Symptoms: what people say", "confusion", pairs)

# --- calibration, what people looked at, disagreements, the calls ---------------------------------------

sure = {row["id"]: row for row in completions}
right = defaultdict(list)
for row in merged:
    label = by_people("is_bug_related", row["url"])
    if label and row["id"] in sure:
        answer = sure[row["id"]]
        place = min(int(answer["confidence"] * 10 + 1e-9), 9)
        right[place].append((answer["confidence"], str(answer["is_bug_related"]).lower() == label))
labelled = sum(map(len, right.values()))
if labelled > 1:
    gaps = [abs(sum(c for c, _ in group) - sum(hit for _, hit in group)) for group in right.values()]
    told_error = re.search(r"expected calibration error is (\S+) over (\S+) items", " ".join(report.split()))
    holds("calibration error", told_error[1], sum(gaps) / labelled)
    holds("items of the calibration error", told_error[2], labelled)

with open(f"{data}/labels_to_fill.csv") as file:
    sheet = {row["url"] for row in csv.DictReader(file)}
for row in table("What people looked at"):
    own = [item["url"] for item in items if row["Engine"] in ("all", item["engine"])]
    holds(f"items of {row['Engine']}", row["Items"], len(own))
    holds(f"sheet of {row['Engine']}", row["On the sheet"], sum(url in sheet for url in own))
    holds(f"decided of {row['Engine']}", row["Decided by people"], sum(url in decided for url in own))

if decided:
    differ = set()
    for (variable, url), given in said.items():
        model = model_says(variable).get(url)
        persons = {label for name, label in given.items() if name != "adjudicated"}
        people_say = by_people(variable, url)
        if len(persons) > 1 or (people_say and model and people_say != model):
            differ.add((variable, url))
    listed = {(row["Question"], row["Item"]) for row in table("What people and the model")}
    compared += len(differ)
    if listed != differ:
        wrong.append(f"disagreements: {listed ^ differ}")

asked = {
    "classify": completions,
    "root_cause": load("final_bug_results_with_root_cause"),
    "root_cause_parts": load("root_cause_parts"),
    "symptom": symptoms,
}
PRICE_IN, PRICE_OUT = 0.40e-6, 1.60e-6
for row in table("When they were asked"):
    calls = {answer["_call"]["id"]: answer["_call"] for answer in asked[row["Stage"]]}.values()
    tokens_in, tokens_out = sum(c["tokens_in"] for c in calls), sum(c["tokens_out"] for c in calls)
    holds(f"calls of {row['Stage']}", row["Calls"], len(calls))
    holds(f"tokens in of {row['Stage']}", row["Tokens in"], tokens_in)
    holds(f"tokens out of {row['Stage']}", row["Tokens out"], tokens_out)
    if calls:
        holds(f"cost of {row['Stage']}", row["USD"], tokens_in * PRICE_IN + tokens_out * PRICE_OUT)

if wrong:
    print("\n".join(wrong))
    sys.exit(1)
print(f"{compared} numbers are as recomputed")
