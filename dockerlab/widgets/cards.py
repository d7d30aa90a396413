"""The parts of the fleet panel as HTML: a status in, text out. Every text that comes from an engine is escaped."""

from __future__ import annotations

from collections.abc import Mapping

from dockerlab.fleet.model import FleetStatus, ReplicaStatus
from dockerlab.widgets import words
from dockerlab.widgets.words import text


def head(status: FleetStatus | None, name: str) -> str:
    """Give name, state, image and the number of replicas that serve."""
    if status is None:
        return f'<h3 class="dl-name">{text(name)}</h3>'
    sign, phase = words.PHASES.get(status.phase, ("?", status.phase))
    share = min(1.0, status.ready / status.desired) if status.desired else 0.0
    return (
        f'<div class="dl-head"><h3 class="dl-name">{text(status.name)}</h3>'
        f'<span class="dl-phase dl-phase-{text(status.phase.lower())}">'
        f'<span aria-hidden="true">{sign}</span> {text(phase)}</span>'
        f'<span class="dl-ready"><b>{status.ready}</b> of {text(words.replicas(status.desired))} ready</span>'
        f"{version(status.image, status.revision)}</div>"
        f'<div class="dl-bar" aria-hidden="true"><span style="width:{share:.1%}"></span></div>'
    )


def link(url: str, environ: Mapping[str, str]) -> str:
    """Give the link to the fleet's page: on a JupyterHub through its proxy, as ports cannot be reached there."""
    prefix = environ.get("JUPYTERHUB_SERVICE_PREFIX", "")
    port = url.rpartition(":")[2].strip("/")
    address = f"{prefix.rstrip('/')}/proxy/{port}/" if prefix else url
    return (
        f'<a class="dl-link" href="{text(address)}" target="_blank" rel="noopener">'
        f'Open {text(url)}<span class="dl-hidden"> (in a new tab)</span></a>'
    )


def cards(status: FleetStatus | None) -> str:
    """Give one card a replica."""
    if status is None:
        return f'<p class="dl-note">{words.WAITING}</p>'
    if not status.replicas:
        return f'<p class="dl-note">{words.NO_REPLICAS}</p>'
    items = "".join(card(replica) for replica in status.replicas)
    example = status.replicas[0].name
    return (
        f'<ul class="dl-cards" aria-label="Replicas of {text(status.name)}">{items}</ul>'
        f'<p class="dl-note">Each card is a container; <code>{text(words.short(example))}</code> is '
        f"<code>{text(example)}</code>.</p>"
    )


def card(replica: ReplicaStatus) -> str:
    """Give the card of one replica."""
    sign, condition = words.condition(replica)
    mood = "good" if replica.ready else "bad" if sign == "✕" else "wait"
    return (
        f'<li class="dl-card dl-hue-{words.hue(replica.revision)} dl-{mood}" data-replica="{text(replica.name)}" '
        f'data-id="{text(replica.id)}" title="{text(replica.name)}">'
        f'<span class="dl-short">{text(words.short(replica.name))}</span>'
        f"{version(replica.image, replica.revision)}"
        f'<span class="dl-condition"><span class="dl-sign" aria-hidden="true">{sign}</span> {text(condition)}</span>'
        f"<span>{text(words.traffic(replica))}</span>"
        f'<span class="dl-quiet">{text(words.requests(replica.sessions))}</span></li>'
    )


def version(image: str, revision: int) -> str:
    """Give image and revision, with the revision's shape and colour."""
    hue = words.hue(revision)
    return (
        f'<span class="dl-version dl-hue-{hue}"><span class="dl-shape" aria-hidden="true">{words.SHAPES[hue]}</span>'
        f"{text(image)} <small>rev. {revision}</small></span>"
    )


def news(*, busy: str, error: str, lost: str) -> str:
    """Give the line that says what is being done and what went wrong; screen readers read it out when it changes."""
    problem = lost or error
    alarm = f'<p role="alert" class="dl-error"><b aria-hidden="true">✕</b> {text(problem)}</p>' if problem else ""
    working = f'<span class="dl-spin" aria-hidden="true">↻</span> {text(busy)}' if busy else ""
    return f'<p role="status" aria-live="polite" class="dl-busy">{working}</p>{alarm}'


def commands(typed: str) -> str:
    """Give the block of commands, which one click selects."""
    typed = typed or "# Scale or replace something, and the commands for it appear here."
    return f'<pre class="dl-pre" tabindex="0" role="group" aria-label="docker commands">{text(typed)}</pre>'
