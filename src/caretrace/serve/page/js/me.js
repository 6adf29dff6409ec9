// Who is looking, and what the service will let them do; it decides by itself, this only avoids dead ends.

const RANKS = { viewer: 0, clinician: 1, admin: 2 };
let told = { who: "", role: "viewer" };

export function setMe(me) {
  told = me;
}

export const me = () => told;
export const may = (role) => (RANKS[told.role] ?? 0) >= RANKS[role];
