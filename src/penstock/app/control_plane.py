"""`python -m penstock.app.control_plane`: the process that holds the objects, serves the API and runs the controllers."""

from __future__ import annotations

import asyncio
import errno
import socket
import time

from penstock.app.addresses import Address
from penstock.app.build import ControlPlane
from penstock.app.home import Home
from penstock.app.link import Link
from penstock.app.process import Ending, Stop, main
from penstock.app.quickstart import ensure_quickstart, is_wanted
from penstock.app.runtimes import ensure_runtimes
from penstock.app.settings import Settings
from penstock.host.api.certificate import ensure_certificate
from penstock.host.api.kubeconfig import ensure_token, write_kubeconfig
from penstock.host.api.server import serve_api
from penstock.kit import collector, logs
from penstock.kit.api_keys import ensure_pepper
from penstock.kit.clock import SystemClock
from penstock.kit.errors import Unavailable
from penstock.kit.tasks import end

BACKLOG = 128


async def control_plane(settings: Settings, link: Link, stop: Stop) -> None:
    """Until told to stop: then pods end, unless it is only the supervisor that is gone."""
    logs.configure(settings.log_level)
    home = Home(settings.home)
    listener = listen(settings.api)
    plane = ControlPlane(settings, SystemClock())
    token, pepper = ensure_token(home.token), ensure_pepper(home.pepper)
    certificate = ensure_certificate(home.state, now_s=time.time())
    write_kubeconfig(
        home.kubeconfig, server=f"https://{settings.api}", token=token, certificate=certificate.certificate
    )
    await ensure_runtimes(plane.cluster)
    if is_wanted() and await ensure_quickstart(plane.cluster):
        link.say("created the service `quickstart` in namespace default")
    finished, listening = asyncio.Event(), asyncio.Event()
    api = plane.api(token, pepper)
    serving = [
        asyncio.create_task(
            serve_api(api, listener, finished, certificate=certificate, on_ready=listening.set)
        ),
        asyncio.create_task(_announce(plane, home, link, listening, finished)),
        asyncio.create_task(plane.run(finished)),
    ]
    try:
        await _stopped_or_broken(stop, serving)
        if stop.ending is Ending.STOPPED:
            await plane.kubelet.stop_all(settings.stop_grace_s)
            await plane.mps.close()
        else:
            await plane.kubelet.close()
    finally:
        finished.set()
        listening.set()
        await asyncio.wait(serving, timeout=5)
        await end(serving)
        plane.close()


async def _announce(
    plane: ControlPlane, home: Home, link: Link, listening: asyncio.Event, finished: asyncio.Event
) -> None:
    """Gateways are ready once they have routes: they get none before the API answers."""
    await listening.wait()
    if not finished.is_set():
        collector.settle()
        link.ready()
        await plane.feed.serve(home.feed_socket, finished)


async def _stopped_or_broken(stop: Stop, serving: list[asyncio.Task[None]]) -> None:
    """Until told to stop; a part that ends by itself ends the process, and the supervisor starts it anew."""
    stopped = asyncio.create_task(stop.event.wait())
    done, _ = await asyncio.wait([stopped, *serving], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    for task in serving:
        if task in done:
            task.result()


def listen(address: Address) -> socket.socket:
    """The API's socket. Raises Unavailable if it cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise Unavailable(
            f"{address}: {'the port is taken by another program' if taken else error.strerror}",
            code="port_taken" if taken else "cannot_listen",
            hint="choose another with PENSTOCK_API_ADDR",
        ) from None


if __name__ == "__main__":
    main(control_plane)
