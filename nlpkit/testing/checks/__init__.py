"""The checks, in the order in which a task is understood: text, answers, loss, scores, files, processes."""

from __future__ import annotations

from nlpkit.testing.check import Check
from nlpkit.testing.checks import answers, files, loss, processes, scores, settings, texts

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        settings.can_be_registered,
        settings.settings_are_described,
        settings.settings_survive_a_file,
        texts.encodes_without_label,
        texts.takes_odd_texts,
        answers.answers_are_json,
        answers.padding_changes_nothing,
        answers.company_changes_nothing,
        answers.batch_is_not_changed,
        loss.loss_is_finite,
        loss.loss_reaches_every_weight,
        loss.loss_is_a_mean_by_count,
        loss.learns_a_few_examples,
        loss.a_seed_repeats,
        scores.metrics_are_finite,
        scores.metrics_start_anew,
        scores.score_has_a_direction,
        scores.learning_raises_the_score,
        files.saved_and_loaded_is_the_same,
        files.files_hold_plain_values,
        processes.imports_fast,
        processes.a_new_process_answers_the_same,
        processes.two_processes_are_as_one,
    )
}
"""Name -> check; the names are what ``skip`` takes."""
