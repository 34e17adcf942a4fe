-- p0 = 'default'
-- p1 = datetime.datetime(2026, 3, 1, 11, 0, tzinfo=datetime.timezone.utc)
-- p2 = 'block'
-- columns: UserId:string, Timestamp:datetime, count_:long, First:datetime
WITH s1 AS (
  SELECT
    "Timestamp" AS c1,
    "UserId" AS c20,
    MAKE_TIMESTAMPTZ(
      EPOCH_US("Timestamp") - (
        EPOCH_US("Timestamp") + 62135596800000000
      ) % 300000000
    ) AS c68
  FROM "AgentActivity"
  WHERE
    "TenantId" IN ($p0)
    AND "Timestamp" > $p1
    AND "Verdict" = $p2
    AND NOT COALESCE("HttpStatus" = 200, FALSE)
), s2 AS (
  SELECT
    c20,
    c68,
    COUNT(*) AS c69,
    MIN(c1) AS c70
  FROM s1
  GROUP BY
    c20,
    c68
)
SELECT
  c20,
  c68,
  c69,
  c70
FROM s2
WHERE
  c69 >= 3
ORDER BY
  c69 DESC,
  c20 NULLS FIRST
