-- p0 = 'default'
-- columns: Count:long
SELECT
  COUNT(*) AS c12
FROM "AgentContent"
WHERE
  "TenantId" IN ($p0)
