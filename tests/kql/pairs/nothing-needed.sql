-- p0 = 'default'
-- columns: Count:long
SELECT
  COUNT(*) AS c15
FROM "AgentContent"
WHERE
  "TenantId" IN ($p0)
