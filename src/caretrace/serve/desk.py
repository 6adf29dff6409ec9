"""The runs in memory, and what their applications' own routes need of the service."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Depends, HTTPException, Request

from caretrace.application import Supervised
from caretrace.apps import APPS
from caretrace.serve.bundles import LoadedBundle, of_application
from caretrace.serve.jobs import Jobs
from caretrace.serve.security import Caller, record_all, refuse, require, sees_subject
from caretrace.serve.settings import Limits

if TYPE_CHECKING:
    from fastapi import APIRouter

T = TypeVar("T")
MOST_WAITING = 16


class Desk:
    """An `application.serving.Desk`.

    Args:
        bundles: The runs that are served.
        jobs: For work that takes long.
        limits: How much may be asked.
    """

    def __init__(self, bundles: dict[str, LoadedBundle], jobs: Jobs, limits: Limits) -> None:
        self.bundles, self.jobs, self.limits = bundles, jobs, limits
        self._opened: dict[str, Any] = {}
        self._risks: set[str] = set()  # those of them that predict from records
        self._thread = ThreadPoolExecutor(1, "caretrace-models")
        self._waiting = 0

    def open(self) -> None:
        """Load every bundle; whatever is damaged is found before anybody asks.

        Raises:
            BundleError: One is damaged.
        """
        for bundle in self.bundles.values():
            module = api_of(bundle.app.name)
            if module is not None and hasattr(module, "open_run"):
                self._opened[bundle.id] = module.open_run(bundle.run)
            elif isinstance(bundle.app, Supervised):
                # Takes seconds, and not every service has one.
                from caretrace.application.answering import RiskRun

                self._opened[bundle.id] = RiskRun(bundle.app, bundle.run)
                self._risks.add(bundle.id)

    def routers(self) -> list[APIRouter]:
        """The routes that the served applications bring."""
        names = dict.fromkeys(bundle.app.name for bundle in self.bundles.values())
        modules = [module for name in names if (module := api_of(name)) is not None]
        return [module.router(self) for module in modules if hasattr(module, "router")]

    def opened(self, application: str, bundle: str | None = None) -> Any:
        """What the application's `open_run` made of one of its runs.

        Raises:
            HTTPException: 404, no such run is served.
        """
        return self._opened[self.named(application, bundle).id]

    def named(self, application: str, bundle: str | None = None) -> LoadedBundle:
        """The bundle behind `opened`.

        Raises:
            HTTPException: 404, no such run is served.
        """
        found = of_application(self.bundles, application) if bundle is None else self.bundles.get(bundle)
        if found is None or found.app.name != application or found.id not in self._opened:
            served = ", ".join(f"{each.id} ({each.app.name})" for each in self.bundles.values()) or "none"
            wanted = application if bundle is None else f"{application} called {bundle}"
            raise HTTPException(404, f"no run of {wanted} is served; served are: {served}")
        return found

    def predicting(self) -> list[str]:
        """Applications of which a run is served that predicts from records that are sent."""
        found = [each.app.name for each in self.bundles.values() if each.id in self._risks]
        return list(dict.fromkeys(found))

    def has(self, application: str) -> bool:
        """Whether a run of an application is served."""
        return of_application(self.bundles, application) is not None

    async def compute(self, work: Callable[[], T]) -> T:
        """Do work in the thread of the models, one after the other.

        Raises:
            HTTPException: 503, too much waits already.
        """
        if self._waiting >= MOST_WAITING:
            raise HTTPException(503, "too many models are being asked; ask again", {"Retry-After": "2"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    async def reads(self, request: Request, what: str, subjects: list[int], *, kept: bool = False) -> None:
        """Write into the audit whose data is answered about; all of them or none.

        Raises:
            HTTPException: 404, data of ours about somebody of another ward; 503, the audit cannot be written.
        """
        who: Caller = request.state.caller
        for subject in subjects:
            if kept and not sees_subject(request, who, subject):
                raise await refuse(request, who, what, subject_id=subject)
        await record_all(request, who, what, subjects)

    def permit(self, action: str) -> Any:
        """A dependency that lets pass only who may do this."""
        return Depends(require(action))

    def close(self) -> None:
        """Wait for what is being computed."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def api_of(name: str) -> ModuleType | None:
    """The module `api` of an application, or None where it brings none."""
    module = APPS[name].rpartition(".")[0] + ".api"
    return importlib.import_module(module) if importlib.util.find_spec(module) else None
