-- p0 = 'default'
-- p1 = 5
-- columns: IngestSeq:long, ReportId:string
WITH s0 AS NOT MATERIALIZED (
  SELECT
    "IngestSeq" AS c3,
    "TenantId" AS c4,
    "ReportId" AS c5
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
    c3 > CAST($p1 AS BIGINT)
)
SELECT
  c3,
  c5
FROM s2
ORDER BY
  c3 ASC NULLS FIRST
LIMIT 5000
