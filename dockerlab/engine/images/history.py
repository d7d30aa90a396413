"""How an image was made, as ``docker history`` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dockerlab.engine.images.record import ImageRecord, parse_time

if TYPE_CHECKING:
    from dockerlab.engine.images.store import Images


def history(images: Images, image: ImageRecord) -> list[dict[str, Any]]:
    """Give what ``GET /images/{name}/history`` answers: how each layer was made, newest first."""
    sizes = [images.layer(one).size_bytes for one in image.diff_ids]
    rows: list[dict[str, Any]] = []
    for entry in image.config.get("history") or []:
        empty = bool(entry.get("empty_layer"))
        rows.append(
            {
                "Id": "<missing>",
                "Created": int(parse_time(entry.get("created"))),
                "CreatedBy": entry.get("created_by") or "",
                "Tags": None,
                "Size": 0 if empty or not sizes else sizes.pop(0),
                "Comment": entry.get("comment") or "",
            }
        )
    rows.reverse()
    image_id = image.id
    for row in rows:
        if not images.has(image_id):
            break
        record = images.get(image_id)
        row["Id"], row["Tags"] = image_id, list(record.tags) or None
        image_id = record.parent
    return rows
