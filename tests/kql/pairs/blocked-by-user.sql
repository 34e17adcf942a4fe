-- p0 = 'default'
-- p1 = datetime.datetime(2026, 3, 1, 11, 0, tzinfo=datetime.timezone.utc)
-- p2 = 'block'
-- p3 = 200
-- p4 = 300000000
-- p5 = 3
-- columns: UserId:string, Timestamp:datetime, count_:long, First:datetime
WITH s0 AS NOT MATERIALIZED (
  SELECT
    "Timestamp" AS c1,
    "TenantId" AS c4,
    "UserId" AS c15,
    "Verdict" AS c22,
    "HttpStatus" AS c35
  FROM "AgentActivity"
), s1 AS NOT MATERIALIZED (
  SELECT
    *
  FROM s0
  WHERE
    c4 IN ($p0)
), s2 AS NOT MATERIALIZED (
  SELECT
    *
  FROM s1
  WHERE
    (
      c1 > $p1
    )
    AND (
      c22 = $p2
    )
    AND (
      NOT (
        (
          c35 IS NOT DISTINCT FROM CAST($p3 AS BIGINT)
        )
      )
    )
), s3 AS NOT MATERIALIZED (
  SELECT
    *,
    c1 - TO_MICROSECONDS((
      EPOCH_US(c1) + 62135596800000000
    ) % CAST($p4 AS BIGINT)) AS c44
  FROM s2
), s4 AS NOT MATERIALIZED (
  SELECT
    c15,
    c44,
    COUNT(*) AS c45,
    MIN(c1) AS c46
  FROM s3
  GROUP BY
    c15,
    c44
), s5 AS NOT MATERIALIZED (
  SELECT
    *
  FROM s4
  WHERE
    c45 >= CAST($p5 AS BIGINT)
)
SELECT
  c15,
  c44,
  c45,
  c46
FROM s5
ORDER BY
  c45 DESC,
  c15 ASC NULLS FIRST
