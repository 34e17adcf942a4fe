-- p0 = 'default'
-- p1 = datetime.datetime(2026, 3, 1, 11, 0, tzinfo=datetime.timezone.utc)
-- p2 = 'block'
-- columns: UserId:string, Timestamp:datetime, count_:long, First:datetime
WITH s1 AS (
  SELECT
    "Timestamp" AS c1,
    "UserId" AS c15,
    MAKE_TIMESTAMPTZ(
      EPOCH_US("Timestamp") - (
        EPOCH_US("Timestamp") + 62135596800000000
      ) % 300000000
    ) AS c46
  FROM "AgentActivity"
  WHERE
    "TenantId" IN ($p0)
    AND "Timestamp" > $p1
    AND "Verdict" = $p2
    AND NOT COALESCE("HttpStatus" = 200, FALSE)
), s2 AS (
  SELECT
    c15,
    c46,
    COUNT(*) AS c47,
    MIN(c1) AS c48
  FROM s1
  GROUP BY
    c15,
    c46
)
SELECT
  c15,
  c46,
  c47,
  c48
FROM s2
WHERE
  c47 >= 3
ORDER BY
  c47 DESC,
  c15 NULLS FIRST
