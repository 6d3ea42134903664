/** Where an agent is in its life: created ─▶ starting ─▶ running ─▶ draining ─▶ stopped. */
export type AgentPhase = 'created' | 'starting' | 'running' | 'draining' | 'stopped';
