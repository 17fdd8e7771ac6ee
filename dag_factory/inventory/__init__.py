"""The inventory: YAML files → resolved rows and problems."""

from dag_factory.inventory.problem import Finding, Problem
from dag_factory.inventory.reader import Inventory, read_inventory, read_platform

__all__ = ["Finding", "Inventory", "Problem", "read_inventory", "read_platform"]
