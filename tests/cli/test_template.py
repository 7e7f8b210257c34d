"""Templates of ``--format``: what each part means, and what is said of those that mean nothing."""

from __future__ import annotations

import time

import pytest

from plugrun.cli import text
from plugrun.errors import InvalidArgument

IMAGE = {
    "Id": "sha256:abc",
    "RepoTags": ["a:1", "b:2"],
    "Size": 5,
    "Config": {"Env": ["A=b", "P=x"], "Labels": {"x.y": "z", "d": "e"}, "Cmd": [], "User": None},
    "Ports": {"80/tcp": [{"HostPort": "8080"}]},
    "Running": True,
}


@pytest.mark.parametrize(
    ("template", "written"),
    [
        # values, as Go writes them
        ("{{.Id}}", "sha256:abc"),
        ("{{.Config.Env}}", "[A=b P=x]"),
        ("{{.Config.Labels}}", "map[d:e x.y:z]"),
        ("{{.Config.User}}", "<no value>"),
        ("{{.Running}} {{.Size}}", "true 5"),
        ("{{json .Config.Env}}", '["A=b", "P=x"]'),
        # functions
        ("{{index .RepoTags 0}}", "a:1"),
        ('{{index .Config.Labels "x.y"}}', "z"),
        ('<{{index .Config.Labels "absent"}}>', "<>"),
        ('{{(index .Ports "80/tcp" 0).HostPort}}', "8080"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{len .RepoTags}} {{len .Id}}", "2 10"),
        ('{{join .RepoTags ","}}', "a:1,b:2"),
        ('{{join .RepoTags "\\n"}}', "a:1\nb:2"),
        ('{{index (split .Id ":") 1}}', "abc"),
        ("{{upper .Id}} {{lower `ABC`}} {{title .Id}}", "SHA256:ABC abc Sha256:Abc"),
        ("{{pad .Id 1 2}}|{{pad `` 1 2}}|", " sha256:abc  ||"),
        ("{{truncate .Id 3}} {{slice .Id 7}} {{slice .Id 0 6}}", "sha abc sha256"),
        ("{{println .Id .Size}}x", "sha256:abc 5\nx"),
        ("{{print .Id .Size}}", "sha256:abc 5"),
        ('{{printf "%-4d|%.6s|%q|%v|%%" .Size .Id .Id .Running}}', '5   |sha256|"sha256:abc"|true|%'),
        ("{{.Id | upper | printf `<%s>`}}", "<SHA256:ABC>"),
        ("{{eq .Size 4 5}} {{ne .Size 5}} {{not .Running}}", "true false false"),
        ("{{and .Running .Size}} {{or .Config.Cmd .Size}} {{or nil false}}", "5 5 false"),
        # blocks
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=b\nP=x\n"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "d=e;x.y=z;"),
        ("{{range $v := .RepoTags}}{{$v}};{{end}}", "a:1;b:2;"),
        ("{{range $i, $v := .RepoTags}}{{if $i}}, {{end}}{{$v}} of {{$.Size}}{{end}}", "a:1 of 5, b:2 of 5"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{if .Config.Cmd}}a{{else if .Running}}b{{else}}c{{end}}", "b"),
        ("{{if .Config.Cmd}}a{{else if .Config.User}}b{{else}}c{{end}}", "c"),
        ("{{with .Config}}{{.Env}} {{$.Id}}{{end}}", "[A=b P=x] sha256:abc"),
        ("{{with $c := .Config}}{{$c.Env}}{{end}}", "[A=b P=x]"),
        ("{{with .Config.User}}a{{else}}b{{end}}", "b"),
        # text
        ("a {{- ` b ` -}} c", "a b c"),
        ("a{{/* said nothing */}}b", "ab"),
        ('{{"}}"}}{{`"`}}{{"\\"\\t\\\\"}}', '}}""\t\\'),
        ("}} {", "}} {"),
    ],
)
def test_what_a_template_writes(template, written):
    assert text.fill(template, IMAGE) == written


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{.Nope}}", "no field 'Nope'"),
        ("{{.Config.Env.x}}", "no field 'x'"),
        ("{{.Id", "'{{' without '}}'"),
        ('{{"a}}', "'{{' without '}}'"),
        ("{{}}", "something is missing"),
        ("{{if}}x{{end}}", "something is missing"),
        ("{{.Id |}}", "leads to no function"),
        ("{{end}}", "ends nothing"),
        ("{{else}}", "ends nothing"),
        ("{{if .Id}}x", "has no {{end}}"),
        ("{{if .Id}}x{{else}}y", "has no {{end}}"),
        ("{{if .Id}}x{{else}}y{{else}}z{{end}}", "has no {{end}}"),
        ("{{(.Id}}", "')' is missing"),
        ("{{.Id)}}", "out of place"),
        ("{{.Id .Size}}", "out of place"),
        ("{{$x := .Id}}", "out of place"),
        ("{{upper upper}}", "out of place"),
        ("{{.Id | .Size}}", "leads to no function"),
        ("{{$x}}", "no variable $x"),
        ("{{.Id; .Size}}", "is not understood"),
        ("{{shell .Id}}", "no function 'shell'"),
        ("{{template `x`}}", "no function 'template'"),
        ("{{upper .Size}}", "upper cannot be applied to 5"),
        ("{{index .RepoTags 7}}", "index cannot be applied"),
        ("{{index .RepoTags -1}}", "index cannot be applied"),
        ("{{index .RepoTags `0`}}", "index cannot be applied"),
        ("{{json}}", "json cannot be applied to nothing"),
        ("{{and}}", "and cannot be applied"),
        ("{{eq .Id}}", "eq cannot be applied"),
        ("{{printf `%d` .Id}}", "printf cannot be applied"),
        ("{{printf `%s`}}", "printf cannot be applied"),
        ("{{printf .Size}}", "printf cannot be applied"),
        ("{{range .Size}}x{{end}}", "cannot range over 5"),
        ("{{" + "(" * 10_000 + "}}", "nested too deeply"),
    ],
)
def test_a_template_that_means_nothing_is_told_why(template, why):
    with pytest.raises(InvalidArgument) as refused:
        text.fill(template, IMAGE)
    assert why in str(refused.value)


def test_the_hint_lists_what_there_is():
    with pytest.raises(InvalidArgument) as refused:
        text.fill("{{.Config.Nope}}", IMAGE)
    assert refused.value.hint == "there are: Cmd, Env, Labels, User"
    with pytest.raises(InvalidArgument) as refused:
        text.fill("{{nope}}", IMAGE)
    assert "json, len, lower" in str(refused.value.hint)


EVIL = {"Name": "\x1b[2J\n", "List": ["\x1b[2J\n"], "Map": {"\x1b[2J\n": "\u202e"}}


@pytest.mark.parametrize(
    "template",
    [
        "{{.Name}}",
        "{{.List}}",
        "{{.Map}}",
        "{{json .Map}}",
        "{{index .List 0}}",
        "{{join .List `,`}}",
        "{{print .Name}}",
        "{{printf `%s%q%v` .Name .Name .List}}",
        "{{.Name | upper}}",
        "{{range $k, $v := .Map}}{{$k}}{{$v}}{{end}}",
        "{{println .Name | printf `%s` | lower}}",
    ],
)
def test_no_value_moves_the_cursor_whatever_is_done_to_it(template):
    written = text.fill(template, EVIL)
    assert written.replace("\n", "" if "println" in template else "\n").isprintable(), written


def test_reading_an_unfinished_template_takes_no_time():
    begin = time.process_time()
    for template in ("{{" + '"' * 4001, "{{" + "`a`" * 2000, "{{" + " -" * 5000):
        with pytest.raises(InvalidArgument):
            text.fill(template, IMAGE)
    assert time.process_time() - begin < 5


ROWS = [{"ID": "1", "Names": "web", "Labels": {"k": "v"}}]


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("table {{.ID}}\\t{{upper .Names}}", "CONTAINER ID   NAMES\n1              WEB"),
        ("table {{.ID}} {{.Names}}", "CONTAINER ID NAMES\n1 web"),
        ("table {{json .Labels}}\\t{{len .Names}}", 'LABELS       NAMES\n{"k": "v"}   3'),
        ('table {{index .Labels "k"}}', "LABELS\nv"),
        ("table no field", "no field\nno field"),
        ("{{if .Labels}}{{.ID}}\\n{{end}}", "1\n"),
    ],
)
def test_templates_of_rows(template, shown):
    assert text.render(ROWS, template, {"ID": "CONTAINER ID"}) == shown


def test_a_table_without_rows_has_its_headings():
    assert text.render([], "table {{.ID}}\\t{{.Names}}", {"ID": "CONTAINER ID"}) == "CONTAINER ID   NAMES"
    assert text.render([], "{{.ID}}", {"ID": "CONTAINER ID"}) == ""
    with pytest.raises(InvalidArgument):
        text.render([], "{{.ID", {"ID": "CONTAINER ID"})
