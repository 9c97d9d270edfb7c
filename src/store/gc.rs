//! What the store holds, whether it is whole, and what of it nobody needs any more.
//!
//! What is taken away goes in one transaction, on a connection of its own and under the lock, and the
//! files after it: what is cut off in between leaves files that nothing names, and no name without
//! its file.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use rusqlite::{Connection, Transaction};
use serde::Serialize;

use super::artifact::{Artifact, list_digest};
use super::calls::{Revised, unpack};
use super::{CallKey, Lock, Store, StoreError, database};
use crate::table::Digest;

/// How much of each sort the store holds; bytes are as they lie on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sizes {
    pub github_calls: u64,
    pub github_bytes: u64,
    pub model_calls: u64,
    pub model_bytes: u64,
    /// Answers of models that others took the place of.
    pub replaced_calls: u64,
    pub replaced_bytes: u64,
    /// Rows that are known, and what they take.
    pub memo_rows: u64,
    pub memo_bytes: u64,
    /// Tables that stand for something.
    pub tables: u64,
    /// The files that tables and other things are kept in.
    pub objects: u64,
    pub object_bytes: u64,
    pub runs: u64,
    /// The whole database, which all but the objects are in.
    pub database_bytes: u64,
}

/// What was found when everything was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Answers, rows and objects that were read.
    pub entries: u64,
    /// What was damaged, and is dropped.
    pub damaged: Vec<String>,
    /// Tables that stand for nothing any more, as they lack a part.
    pub tables: u64,
}

/// What was forgotten of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    pub memo_rows: u64,
    pub tables: u64,
    pub calls: u64,
}

/// What may be collected: all that is not kept. Answers of models were paid for and always are.
#[derive(Clone, Debug, Default)]
pub struct Gc {
    /// Tables that are needed, with all that they refer to.
    pub tables: HashSet<Digest>,
    /// Other objects that are needed.
    pub objects: HashSet<Digest>,
    /// Definitions of stages whose memo is needed.
    pub definitions: HashSet<Digest>,
    /// Those of them whose tables are all needed, as it is not known which.
    pub unsettled: HashSet<Digest>,
    /// Calls that are needed beside those that the memo stands on.
    pub calls: HashSet<CallKey>,
    /// What this run and later ones made is needed.
    pub since_run: i64,
    /// Only what is older than this is collected.
    pub before: Option<SystemTime>,
    /// Only tell.
    pub dry_run: bool,
}

/// What was collected, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    pub memo_rows: u64,
    pub tables: u64,
    /// Answers of GitHub.
    pub github_calls: u64,
    pub objects: u64,
    pub object_bytes: u64,
    /// What the database gives back.
    pub database_bytes: u64,
}

/// Answers that cost nothing to ask for again. The others were paid for.
const FREE: &str = "(method = 'GET' OR url LIKE '%/graphql')";

impl Store {
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        let mut sizes = self.read(|connection| {
            let two = |sql: &str| {
                connection.query_row(sql, [], |row| Ok((row.get::<_, u64>(0)?, row.get(1)?)))
            };
            let bytes = "count(*), coalesce(sum(length(request) + length(body)), 0) FROM calls";
            let (github_calls, github_bytes) = two(&format!("SELECT {bytes} WHERE {FREE}"))?;
            let (model_calls, model_bytes) = two(&format!("SELECT {bytes} WHERE NOT {FREE}"))?;
            let (replaced_calls, replaced_bytes) =
                two("SELECT count(*), coalesce(sum(length(body)), 0) FROM replaced")?;
            let (memo_rows, memo_bytes) =
                two("SELECT count(*), coalesce(sum(length(rows)), 0) FROM memo")?;
            let (tables, runs) =
                two("SELECT (SELECT count(*) FROM fingerprints), (SELECT count(*) FROM runs)")?;
            Ok(Sizes {
                github_calls,
                github_bytes,
                model_calls,
                model_bytes,
                replaced_calls,
                replaced_bytes,
                memo_rows,
                memo_bytes,
                tables,
                objects: 0,
                object_bytes: 0,
                runs,
                database_bytes: pages(connection, "page_count")?,
            })
        })?;
        self.each_object(|digest, metadata, _| {
            if digest.is_some() {
                sizes.objects += 1;
                sizes.object_bytes += metadata.len();
            }
            Ok(())
        })?;
        Ok(sizes)
    }

    /// Reads everything and holds it against its digest. What is damaged is dropped, so that it is
    /// made or asked for again. `_lock`: no run works meanwhile.
    pub fn verify(&self, _lock: &Lock) -> Result<Verified, StoreError> {
        if let Some(what) = self.read(faults)? {
            return Err(StoreError::Damaged(format!(
                "the database itself ({what}): move it away and run again; what can be read of it \
                 with `sqlite3 flow.db .recover` can be put in its place"
            )));
        }
        let mut verified = Verified::default();
        let calls = self.read(|connection| damaged_calls(connection, &mut verified))?;
        let replaced = self.read(|connection| damaged_replaced(connection, &mut verified))?;
        let memo = self.read(|connection| damaged_memo(connection, &mut verified))?;
        let objects = self.damaged_objects(&mut verified)?;
        let mut tables = Vec::new();
        for table in self.read(named_tables)? {
            if !self.has_object(table) {
                verified.damaged.push(format!("the table {}: it is gone", table.short()));
                tables.push(table);
            } else if objects.contains(&table) {
                tables.push(table);
            }
        }
        verified.tables = self.change(true, |transaction| {
            delete_calls(transaction, &calls)?;
            delete(transaction, "replaced", &replaced)?;
            delete(transaction, "memo", &memo)?;
            let mut forgotten = 0;
            for table in &tables {
                let of = [&table.0[..]];
                forgotten += transaction
                    .execute("DELETE FROM fingerprints WHERE artifact = ?1 OR failed = ?1", of)?;
                transaction.execute("DELETE FROM memo WHERE stored AND rows = ?1", of)?;
            }
            Ok(forgotten as u64)
        })?;
        for object in objects {
            self.drop_object(object);
        }
        Ok(verified)
    }

    /// Objects that do not hold what they are named after, and tables that lack a part.
    fn damaged_objects(&self, verified: &mut Verified) -> Result<HashSet<Digest>, StoreError> {
        let mut damaged = HashSet::new();
        let mut lists = Vec::new();
        self.each_object(|digest, _, path| {
            let Some(digest) = digest else { return Ok(()) };
            verified.entries += 1;
            // What cannot be read is as good as damaged.
            let bytes = fs::read(path).unwrap_or_default();
            let lines = || zstd::decode_all(&bytes[..]).is_ok_and(|it| Digest::of(&it) == digest);
            if let Some(list) = Artifact::read(&bytes, digest) {
                lists.push(list);
            } else if list_digest(&bytes) != digest && Digest::of(&bytes) != digest && !lines() {
                verified.damaged.push(format!("the object {}", digest.short()));
                damaged.insert(digest);
            }
            Ok(())
        })?;
        for list in lists {
            if list.parts().any(|part| damaged.contains(&part) || !self.has_object(part)) {
                let rows = list.rows;
                let short = list.digest().short();
                verified.damaged.push(format!("the table {short} of {rows} rows: a part is gone"));
                damaged.insert(list.digest());
            }
        }
        Ok(damaged)
    }

    /// The calls that rows of stages of these definitions stand on.
    pub fn calls_of(&self, definitions: &HashSet<Digest>) -> Result<HashSet<CallKey>, StoreError> {
        self.read(|connection| {
            let mut calls = HashSet::new();
            let mut memo = connection.prepare("SELECT calls FROM memo WHERE definition = ?1")?;
            for definition in definitions {
                let mut rows = memo.query([&definition.0[..]])?;
                while let Some(row) = rows.next()? {
                    calls.extend(keys(row.get_ref(0)?.as_blob()?));
                }
            }
            Ok(calls)
        })
    }

    /// Forgets what `stage` made under these definitions, how it ended, and the answers to `calls`.
    pub fn clear(
        &self,
        stage: &str,
        definitions: &HashSet<Digest>,
        calls: &HashSet<CallKey>,
        _lock: &Lock,
    ) -> Result<Cleared, StoreError> {
        self.change(true, |transaction| {
            let mut cleared = Cleared::default();
            for definition in definitions {
                let delete = |table: &str| {
                    let sql = format!("DELETE FROM {table} WHERE definition = ?1");
                    transaction.execute(&sql, [&definition.0[..]])
                };
                cleared.memo_rows += delete("memo")? as u64;
                cleared.tables += delete("fingerprints")? as u64;
            }
            // Else its rows would be taken over from the table that it last had.
            transaction.execute("DELETE FROM stages WHERE name = ?1", [stage])?;
            let mut rows = Vec::new();
            let mut find = transaction.prepare("SELECT rowid FROM calls WHERE key = ?1")?;
            for call in calls {
                for row in find.query_map([&call.0.0[..]], |row| row.get(0))? {
                    rows.push(row?);
                }
            }
            cleared.calls = delete_calls(transaction, &rows)?;
            Ok(cleared)
        })
    }

    /// Collects what `gc` does not keep, and gives the room back.
    pub fn collect(&self, gc: &Gc, _lock: &Lock) -> Result<Collected, StoreError> {
        let (mut collected, named) = self.change(!gc.dry_run, |transaction| {
            let collected = sweep(transaction, gc)?;
            Ok((collected, named_tables(transaction)?))
        })?;
        let mut live: HashSet<Digest> = gc.objects.clone();
        for table in gc.tables.iter().chain(&named) {
            live.insert(*table);
            let list = self.object(*table)?.and_then(|bytes| Artifact::read(&bytes, *table));
            live.extend(list.iter().flat_map(Artifact::parts));
        }
        self.each_object(|digest, metadata, path| {
            let old = match gc.before {
                None => true,
                Some(before) => metadata.modified()? < before,
            };
            // What a killed run left half written has no digest for a name.
            if old && digest.is_none_or(|digest| !live.contains(&digest)) {
                collected.objects += 1;
                collected.object_bytes += metadata.len();
                if !gc.dry_run {
                    fs::remove_file(path)?;
                }
            }
            Ok(())
        })?;
        if !gc.dry_run && collected.database_bytes > 0 {
            let connection = database::open(&self.database())?;
            let vacuum = connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
            vacuum.map_err(|error| database::unusable(&self.database(), &error))?;
        }
        Ok(collected)
    }

    /// Changes the database in one transaction, which stands if `stand`.
    fn change<T>(
        &self,
        stand: bool,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let path = self.database();
        let mut connection = database::open(&path)?;
        let changed = (|| {
            let transaction = connection.transaction()?;
            let done = work(&transaction)?;
            match stand {
                true => transaction.commit()?,
                false => transaction.rollback()?,
            }
            Ok(done)
        })();
        changed.map_err(|error| database::unusable(&path, &error))
    }

    /// Tells `each` of every file in which objects are kept; those without a digest were never
    /// finished. A run that works meanwhile may take one away.
    fn each_object(
        &self,
        mut each: impl FnMut(Option<Digest>, &Metadata, &Path) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        for folder in entries(&self.objects())? {
            for file in entries(&folder)? {
                let metadata = match fs::metadata(&file) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    metadata => metadata?,
                };
                let name = |path: &Path| {
                    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
                };
                let hex = name(&folder) + &name(&file);
                each(hex.parse().ok(), &metadata, &file)?;
            }
        }
        Ok(())
    }
}

/// What stands in a folder; nothing where it is none.
fn entries(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if is_no_folder(&error) => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The bytes of so many pages as the pragma counts.
fn pages(connection: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    let count: u64 = connection.pragma_query_value(None, pragma, |row| row.get(0))?;
    let size: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(count * size)
}

/// What SQLite itself finds wrong, the first of it.
fn faults(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((found != "ok").then(|| found.lines().collect::<Vec<_>>().join(" ")))
}

/// The rows of `calls` whose answers are not what they were.
fn damaged_calls(connection: &Connection, verified: &mut Verified) -> rusqlite::Result<Vec<i64>> {
    let mut damaged = Vec::new();
    let mut statement = connection
        .prepare("SELECT rowid, request, headers, body, digest, method, url FROM calls")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        verified.entries += 1;
        let blob = |at| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
        let headers = row.get_ref(2)?.as_str()?;
        if unpack(blob(1)?, headers, blob(3)?, blob(4)?).is_none() {
            let (method, url): (String, String) = (row.get(5)?, row.get(6)?);
            verified.damaged.push(format!("the answer to {method} {url}"));
            damaged.push(row.get(0)?);
        }
    }
    Ok(damaged)
}

/// The rows of `replaced` that are not what they were.
fn damaged_replaced(
    connection: &Connection,
    verified: &mut Verified,
) -> rusqlite::Result<Vec<i64>> {
    let mut damaged = Vec::new();
    let mut statement = connection.prepare("SELECT rowid, body, digest FROM replaced")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        verified.entries += 1;
        let (body, digest) = (row.get_ref(1)?.as_blob()?, row.get_ref(2)?.as_blob()?);
        let whole = zstd::decode_all(body).is_ok_and(|body| Digest::of(&body).0[..] == *digest);
        if !whole {
            verified.damaged.push("an answer that another took the place of".into());
            damaged.push(row.get(0)?);
        }
    }
    Ok(damaged)
}

/// The rows of `memo` that are not what they were.
fn damaged_memo(connection: &Connection, verified: &mut Verified) -> rusqlite::Result<Vec<i64>> {
    let mut damaged = Vec::new();
    let mut statement = connection.prepare("SELECT rowid, key, rows, digest FROM memo")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        verified.entries += 1;
        let (made, digest) = (row.get_ref(2)?.as_blob()?, row.get_ref(3)?.as_blob()?);
        if Digest::of(made).0[..] != *digest {
            let key = Digest::from_slice(row.get_ref(1)?.as_blob()?);
            let key = key.map(|key| key.short()).unwrap_or_default();
            verified.damaged.push(format!("what is remembered of a row, {key}"));
            damaged.push(row.get(0)?);
        }
    }
    Ok(damaged)
}

fn delete(connection: &Connection, table: &str, rows: &[i64]) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare(&format!("DELETE FROM {table} WHERE rowid = ?1"))?;
    let mut deleted = 0;
    for row in rows {
        deleted += statement.execute([row])? as u64;
    }
    Ok(deleted)
}

/// Takes answers away. Rows that were remembered on what stood before one of them was replaced go
/// with it: nothing else would tell that they are out of date.
fn delete_calls(connection: &Connection, rows: &[i64]) -> rusqlite::Result<u64> {
    let mut revised: HashMap<CallKey, i64> = HashMap::new();
    {
        let mut revision = connection
            .prepare("SELECT key, revision FROM calls WHERE rowid = ?1 AND revision > 0")?;
        for row in rows {
            let mut found = revision.query([row])?;
            if let Some(row) = found.next()?
                && let Some(key) = Digest::from_slice(row.get_ref(0)?.as_blob()?)
            {
                revised.insert(CallKey(key), row.get(1)?);
            }
        }
    }
    if !revised.is_empty() {
        let mut outdated = Vec::new();
        let mut memo = connection.prepare("SELECT rowid, calls, revision FROM memo")?;
        let mut rows = memo.query([])?;
        while let Some(row) = rows.next()? {
            let revision: i64 = row.get(2)?;
            let later = |call: CallKey| revised.get(&call).is_some_and(|run| *run > revision);
            if keys(row.get_ref(1)?.as_blob()?).any(later) {
                outdated.push(row.get(0)?);
            }
        }
        delete(connection, "memo", &outdated)?;
    }
    Revised::note(connection)?;
    delete(connection, "calls", rows)
}

/// The calls that a row of the memo stands on.
fn keys(calls: &[u8]) -> impl Iterator<Item = CallKey> {
    calls.chunks(32).filter_map(Digest::from_slice).map(CallKey)
}

/// Every table that a fingerprint or a row of the memo stands for.
fn named_tables(connection: &Connection) -> rusqlite::Result<HashSet<Digest>> {
    let mut statement = connection.prepare(
        "SELECT artifact FROM fingerprints UNION SELECT failed FROM fingerprints
         WHERE failed IS NOT NULL UNION SELECT rows FROM memo WHERE stored",
    )?;
    let digests = statement.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    digests.map(|digest| Ok(Digest::from_slice(&digest?))).filter_map(Result::transpose).collect()
}

/// Deletes from the database what `gc` does not keep.
fn sweep(connection: &Connection, gc: &Gc) -> rusqlite::Result<Collected> {
    let before = match gc.before {
        None => i64::MAX,
        Some(before) => before
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis().try_into().unwrap_or(i64::MAX)),
    };
    let calls: HashSet<Digest> = gc.calls.iter().map(|call| call.0).collect();
    let kept = [
        ("kept_tables", &gc.tables),
        ("kept_definitions", &gc.definitions),
        ("unsettled", &gc.unsettled),
        ("kept_calls", &calls),
    ];
    for (table, digests) in kept {
        connection.execute(&format!("CREATE TEMP TABLE {table} (digest BLOB PRIMARY KEY)"), [])?;
        let mut insert = connection.prepare(&format!("INSERT INTO temp.{table} VALUES (?1)"))?;
        for digest in digests {
            insert.execute([&digest.0[..]])?;
        }
    }
    // What a run made is as old as the run.
    let old = "run < ?1 AND run NOT IN (SELECT id FROM runs WHERE unixepoch(at) * 1000 >= ?2)";
    let memo = format!(
        "DELETE FROM memo WHERE definition NOT IN (SELECT digest FROM temp.kept_definitions)
         AND {old}"
    );
    let tables = format!(
        "DELETE FROM fingerprints WHERE artifact NOT IN (SELECT digest FROM temp.kept_tables)
         AND definition NOT IN (SELECT digest FROM temp.unsettled) AND {old}"
    );
    let memo_rows = connection.execute(&memo, [gc.since_run, before])? as u64;
    let tables = connection.execute(&tables, [gc.since_run, before])? as u64;
    {
        let mut insert = connection.prepare("INSERT OR IGNORE INTO temp.kept_calls VALUES (?1)")?;
        let mut memo = connection.prepare("SELECT calls FROM memo")?;
        let mut rows = memo.query([])?;
        while let Some(row) = rows.next()? {
            for key in keys(row.get_ref(0)?.as_blob()?) {
                insert.execute([&key.0.0[..]])?;
            }
        }
    }
    Revised::note(connection)?;
    let calls = format!(
        "DELETE FROM calls WHERE {FREE} AND key NOT IN (SELECT digest FROM temp.kept_calls)
         AND run < ?1 AND max(checked, unixepoch(at) * 1000) < ?2"
    );
    let github_calls = connection.execute(&calls, [gc.since_run, before])? as u64;
    let database_bytes = pages(connection, "freelist_count")?;
    Ok(Collected { memo_rows, tables, github_calls, database_bytes, ..Collected::default() })
}
