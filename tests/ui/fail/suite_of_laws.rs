use idem_runtime::conformance::suite;

suite!(unsure_about_damage, fixture(), damage: maybe, restart: yes);
suite!(unsure_about_restart, fixture(), damage: yes, restart: maybe);
suite!(without_a_reason, fixture(), damage: no, restart: yes);
suite!(with_a_reason_elsewhere, fixture(), damage: yes, restart: no(REASON));
suite!(in_another_order, fixture(), restart: yes, damage: yes);
suite!(without_damage, fixture(), restart: yes);
suite!(without_restart, fixture(), damage: yes);
suite!(without_groups, fixture());
suite!(with_another_group, fixture(), damage: yes, restart: yes, network: yes);
suite!(with_a_group_renamed, fixture(), damage: yes, restarts: yes);
suite!(fixture(), damage: yes, restart: yes);

fn main() {}
