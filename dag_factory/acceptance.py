"""Would Airflow take this DAG? An error in one DAG of a file is an error of the file, and hides all of its DAGs; so what
Airflow does to each of them before it stores any is done to one of them first, where it can be told apart."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import DAG


def accepted(make: Callable[[], DAG]) -> DAG:
    """The DAG that `make` builds, once Airflow's checks, the site's cluster policies and the serialisation have gone through.
    Raises whatever they raise. Only where DAG files are processed: a task needs no serialised DAG. About 2 ms."""
    from airflow.serialization.serialized_objects import DagSerialization

    dag = make()
    dag.validate()
    dag.check_cycle()
    with_policies = _policies(dag)
    DagSerialization.to_dict(dag)
    # Policies may change what they are given, and Airflow is going to apply them once more.
    return make() if with_policies else dag


def _policies(dag: DAG) -> bool:
    """Applies the site's cluster policies; False when it has none."""
    from airflow.exceptions import AirflowClusterPolicySkipDag
    from airflow.policies import DefaultPolicy
    from airflow.settings import dag_policy, get_policy_plugin_manager, task_policy

    hook = get_policy_plugin_manager().hook
    found = (*hook.dag_policy.get_hookimpls(), *hook.task_policy.get_hookimpls())
    if all(policy.plugin is DefaultPolicy for policy in found):
        return False
    # A policy that asks for the DAG to be skipped is no refusal: Airflow leaves it out by itself, without an error.
    with suppress(AirflowClusterPolicySkipDag):
        dag_policy(dag)
        for task in dag.tasks:
            task_policy(task)
    return True
