"""Clusters, datastores and what `furlough apply` sends."""

from __future__ import annotations

from typing import Any, TypeVar

from fastapi import APIRouter, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from furlough.api.calling import Caller, TheService
from furlough.api.json_body import StrictRoute
from furlough.api.paging import IfMatch, check_match, etag_of
from furlough.core.enrolment import Enrolment
from furlough.core.ids import parse_cluster_name
from furlough.errors import Invalid
from furlough.wire.enrolment import (
    ClusterBody,
    DatastoreBody,
    DatastoreView,
    EnrolmentBody,
    cluster_body,
)
from furlough.wire.facts import ClusterView, cluster_view
from furlough.wire.shapes import Body

router = APIRouter(route_class=StrictRoute)

B = TypeVar("B", bound=Body)


def merged(shape: type[B], known: dict[str, Any], changes: dict[str, Any]) -> B:
    """What is known with some of it changed; the name stays. Checked like a new one."""
    if changes.get("name", known["name"]) != known["name"]:
        raise Invalid("name.fixed", "A name cannot be changed.", remedy="Remove and add it.")
    try:
        return shape.model_validate({**known, **changes})
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


@router.post("/apply", status_code=204)
async def apply(body: EnrolmentBody, service: TheService, _caller: Caller) -> Response:
    """Create or change clusters, datastores and hosts: all of them, or none."""
    await service.enrolling.apply(body.to_core())
    return Response(status_code=204)


@router.get("/clusters")
async def list_clusters(service: TheService, _caller: Caller) -> list[ClusterView]:
    """All clusters."""
    inventory = await service.inventory()
    return [cluster_view(cluster, inventory) for cluster in inventory.clusters]


@router.get("/clusters/{name}")
async def show_cluster(name: str, service: TheService, response: Response) -> ClusterView:
    """One cluster. Its ETag is the version of what can be changed."""
    cluster = (await service.enrolment()).cluster(parse_cluster_name(name))
    response.headers["ETag"] = etag_of(cluster_body(cluster))
    return cluster_view(cluster, await service.inventory())


@router.post("/clusters", status_code=201)
async def add_cluster(body: ClusterBody, service: TheService, _caller: Caller) -> ClusterView:
    """Enrol a cluster; `409` where there is one of this name."""
    await service.enrolling.add(Enrolment(clusters=[body.to_core()]))
    return cluster_view(body.to_core(), await service.inventory())


@router.patch("/clusters/{name}")
async def set_cluster(
    name: str, changes: dict[str, Any], service: TheService, if_match: IfMatch = None
) -> ClusterView:
    """Change what is named, keep the rest. `412` where somebody has changed it since."""
    enrolment = await service.enrolment()
    known = enrolment.cluster(parse_cluster_name(name))
    check_match(if_match, cluster_body(known))
    body = merged(ClusterBody, cluster_body(known), changes)
    await service.enrolling.apply(Enrolment(clusters=[body.to_core()]), based_on=enrolment)
    return cluster_view(body.to_core(), await service.inventory())


@router.delete("/clusters/{name}", status_code=204)
async def remove_cluster(name: str, service: TheService, if_match: IfMatch = None) -> Response:
    """Forget an empty cluster."""
    if if_match is not None:
        known = (await service.enrolment()).cluster(parse_cluster_name(name))
        check_match(if_match, cluster_body(known))
    await service.enrolling.remove_cluster(parse_cluster_name(name))
    return Response(status_code=204)


@router.get("/datastores")
async def list_datastores(service: TheService, _caller: Caller) -> list[DatastoreView]:
    """All datastores."""
    enrolment = await service.enrolment()
    return [DatastoreView.model_validate(one) for one in enrolment.datastores]


@router.post("/datastores", status_code=201)
async def add_datastore(body: DatastoreBody, service: TheService, _caller: Caller) -> DatastoreBody:
    """Enrol a datastore; `409` where there is one of this name."""
    await service.enrolling.add(Enrolment(datastores=[body.to_core()]))
    return body


@router.delete("/datastores/{name}", status_code=204)
async def remove_datastore(name: str, service: TheService, _caller: Caller) -> Response:
    """Forget a datastore that no host lists."""
    await service.enrolling.remove_datastore(name)
    return Response(status_code=204)
