-- p0 = 'default'
-- columns: Count:long
WITH s0 AS NOT MATERIALIZED (
  SELECT
    "TenantId" AS c4
  FROM "AgentContent"
), s1 AS NOT MATERIALIZED (
  SELECT
    *
  FROM s0
  WHERE
    c4 IN ($p0)
), s2 AS NOT MATERIALIZED (
  SELECT
    COUNT(*) AS c10
  FROM s1
)
SELECT
  c10
FROM s2
