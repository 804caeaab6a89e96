"""Python one-liners in a code block.

Promises: every line of code parses as Python, and text or numbers in it are copied from the
question.

Leaves to others: longer programs, which this model cannot write.
"""

from __future__ import annotations

from random import Random

from gguf_widgets.demo.sentences import names
from gguf_widgets.demo.sentences.base import Part, Pool, Turn, casual
from gguf_widgets.demo.sentences.texts import section

# What is wanted -> the line. {w} a word, {n} a number, {v} a variable's name, {m} a file's name.
TASKS: dict[str, str] = {
    "prints {w}": 'print("{w}")',
    "prints Hello, {w}": 'print("Hello, {w}!")',
    "says hello to {w}": 'print("Hello, {w}!")',
    "prints the number {n}": "print({n})",
    "prints the numbers from 1 to {n}": "print(*range(1, {n} + 1))",
    "counts from 1 to {n}": "print(*range(1, {n} + 1))",
    "adds up the numbers from 1 to {n}": "print(sum(range(1, {n} + 1)))",
    "prints {w} {n} times": 'print("{w}" * {n})',
    "reverses the list {v}": "{v} = {v}[::-1]",
    "reverses the word {w}": 'print("{w}"[::-1])',
    "sorts the list {v}": "{v} = sorted({v})",
    "sorts the list {v} backwards": "{v} = sorted({v}, reverse=True)",
    "finds the largest number in {v}": "largest = max({v})",
    "finds the smallest number in {v}": "smallest = min({v})",
    "sums the list {v}": "total = sum({v})",
    "adds up the list {v}": "total = sum({v})",
    "gives the length of {v}": "length = len({v})",
    "counts the items in {v}": "count = len({v})",
    "makes the average of {v}": "average = sum({v}) / len({v})",
    "makes {v} upper case": "{v} = {v}.upper()",
    "makes {v} lower case": "{v} = {v}.lower()",
    "removes repeats from {v}": "{v} = list(dict.fromkeys({v}))",
    "makes a list of the squares up to {n}": "squares = [i**2 for i in range({n} + 1)]",
    "keeps the even numbers of {v}": "even = [i for i in {v} if i % 2 == 0]",
    "keeps the odd numbers of {v}": "odd = [i for i in {v} if i % 2 == 1]",
    "doubles every number in {v}": "doubled = [i * 2 for i in {v}]",
    "adds {n} to {v}": "{v} = {v} + {n}",
    "sets {v} to {n}": "{v} = {n}",
    "makes an empty list called {v}": "{v} = []",
    "appends {n} to the list {v}": "{v}.append({n})",
    "reads the file {m}": 'text = open("{m}").read()',
    "reads the CSV file {m} with pandas": 'df = pd.read_csv("{m}")',
    "splits {v} into words": "words = {v}.split()",
    "joins the list {v} with commas": 'text = ",".join({v})',
    "gets the first item of {v}": "first = {v}[0]",
    "gets the last item of {v}": "last = {v}[-1]",
    "rolls a dice": "import random; print(random.randint(1, 6))",
    "prints a random number up to {n}": "import random; print(random.randint(1, {n}))",
    "prints the date of today": "import datetime; print(datetime.date.today())",
    "asks for a name": 'name = input("What is your name? ")',
    "checks if {v} is even": "is_even = {v} % 2 == 0",
    "swaps a and b": "a, b = b, a",
}
QUESTIONS = Pool(section("code", "questions"))
IMPERATIVES = Pool(section("code", "imperatives"))
VARIABLES = section("code", "variables")
FILES = section("code", "files")
GREETINGS = ("Hello", "Good morning", "Python", "hello world", "Welcome")


def _imperative(task: str) -> str:
    """Turn "prints the date" into "print the date"."""
    verb, _, rest = task.partition(" ")
    return f"{verb.removesuffix('s')} {rest}"


def turn(rng: Random, part: Part) -> Turn:
    """Ask for one line of Python."""
    task = rng.choice(list(TASKS))
    variable = rng.choice(VARIABLES) if rng.random() < 0.7 else names.invented_word(rng)
    greets = rng.random() >= 0.6
    words = {
        "w": rng.choice(GREETINGS) if greets else names.first_name(rng, part),
        "n": str(rng.randint(2, 100)),
        "v": variable,
        "m": f"{rng.choice(FILES)}.{'csv' if 'CSV' in task else 'txt'}",
    }
    if rng.random() < 0.3:
        question = IMPERATIVES.pick(rng, part).format(t=_imperative(task))
    else:
        question = QUESTIONS.pick(rng, part).format(t=task)
    question = question.format(**words)
    if rng.random() < 0.5:
        question = question[0].upper() + question[1:]
    return Turn(
        casual(rng, question, keep_case=True),
        f"```python\n{TASKS[task].format(**words)}\n```",
    )
