-- The catalogue of models: what is known of each, in which state it is, and who did what to it.
-- States change one way only, and nothing that was written is changed or taken away: triggers hold it, whoever writes.

CREATE TABLE IF NOT EXISTS models (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  revision TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('imported', 'configured', 'approved', 'retired')),
  card TEXT NOT NULL,
  config TEXT NOT NULL DEFAULT '{}',
  UNIQUE (name, revision)
);

-- Two approved revisions of one model would leave open which of them runs.
CREATE UNIQUE INDEX IF NOT EXISTS one_approved ON models (name) WHERE state = 'approved';

CREATE TABLE IF NOT EXISTS history (
  id INTEGER PRIMARY KEY,
  model INTEGER NOT NULL REFERENCES models (id),
  at TEXT NOT NULL,
  who TEXT NOT NULL CHECK (length(trim(who)) > 0),
  what TEXT NOT NULL CHECK (what IN ('import', 'configure', 'approve', 'retire')),
  why TEXT NOT NULL CHECK (length(trim(why)) > 0),
  detail TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE
);

CREATE TRIGGER IF NOT EXISTS first_imported BEFORE INSERT ON models WHEN NEW.state != 'imported'
BEGIN SELECT RAISE(ABORT, 'a model begins as imported'); END;

CREATE TRIGGER IF NOT EXISTS one_way BEFORE UPDATE OF state ON models
WHEN NOT (
  (OLD.state = 'imported' AND NEW.state = 'configured')
  OR (OLD.state = 'configured' AND NEW.state = 'approved')
  OR (OLD.state = 'approved' AND NEW.state = 'retired')
)
BEGIN SELECT RAISE(ABORT, 'imported, configured, approved, retired: there is no other way'); END;

CREATE TRIGGER IF NOT EXISTS what_it_is BEFORE UPDATE OF id, name, revision, card ON models
BEGIN SELECT RAISE(ABORT, 'what a model is does not change; import another revision'); END;

CREATE TRIGGER IF NOT EXISTS configured_once BEFORE UPDATE OF config ON models
WHEN NOT (OLD.state = 'imported' AND NEW.state = 'configured')
BEGIN SELECT RAISE(ABORT, 'a model is configured before it is approved, and once'); END;

CREATE TRIGGER IF NOT EXISTS models_stay BEFORE DELETE ON models
BEGIN SELECT RAISE(ABORT, 'models are retired, never deleted'); END;

CREATE TRIGGER IF NOT EXISTS history_stays BEFORE DELETE ON history
BEGIN SELECT RAISE(ABORT, 'history is not deleted'); END;

CREATE TRIGGER IF NOT EXISTS history_holds BEFORE UPDATE ON history
BEGIN SELECT RAISE(ABORT, 'history is not changed'); END;
