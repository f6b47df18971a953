"""How a server under test is made to write down the connections that it opens."""

from pathlib import Path

from tests.integration.gateway_process import GatewayProcess

ROOT = Path(__file__).parents[3]
SOCKET_LOG = "sockets.log"


def watching(folder: Path) -> dict[str, str]:
    """The variables of a process that writes them into `folder`."""
    return {
        "SOCKET_LOG": str(folder / SOCKET_LOG),
        "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
    }


def opened_by(gateway: GatewayProcess) -> str:
    """The connections that a watched server's processes opened, and the names they looked up."""
    log = gateway.log_file.with_name(SOCKET_LOG)
    return log.read_text() if log.exists() else ""
